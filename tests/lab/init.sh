#!/bin/busybox sh
# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

# The init of the lab's guests: mounts the first disk, starts what the kernel
# command line asks for, and then is "tick" (see tick.c).
#
#   bus=virtio|scsi|ide   which driver to load; all of them where not said
#   agent=1               start the QEMU guest agent
#   agent_without=COMMAND without this command
#   also=DISK             number the writes on this disk (vdb), too; again for
#                         another.  Numbers stop while file systems are frozen,
#                         as a database does: by a hook of the agent
#   tick=N, write=N, poweroff_after=N   passed on to tick

export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /run /tmp /mnt /var/run
bus='virtio scsi ide' agent=0 agent_without= also= options=
for word in $(cat /proc/cmdline); do
    case $word in
        bus=*) bus=${word#*=} ;;
        agent=*) agent=${word#*=} ;;
        agent_without=*) agent_without=${word#*=} ;;
        also=*) also="$also ${word#*=}" ;;
        tick=*|write=*|busy=*|poweroff_after=*) options="$options $word" ;;
    esac
done
echo GUEST-UP

load() {
    while read -r module; do
        insmod "/lib/modules/$module" 2>/dev/null
    done <"/lib/modules/order.$1"
}
for name in $bus; do load "$name"; done
if [ -d /sys/firmware/efi/efivars ]; then
    load uefi
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars
fi

# The first disk, and its first partition where it has partitions.
tries=0 disk=
while [ -z "$disk" ] && [ $tries -lt 200 ]; do
    for name in vda sda hda; do
        [ -b /dev/$name ] && disk=/dev/$name && break
    done
    [ -n "$disk" ] || usleep 50000
    tries=$((tries + 1))
done
[ -b "${disk}1" ] && disk=${disk}1
if ! mount -t ext4 "$disk" /mnt; then
    echo "NO-DISK $disk"
    exec sleep 1000000
fi
[ -f /mnt/log ] && echo "FOUND $(wc -l </mnt/log) $(tail -n 1 /mnt/log)"
[ -f /mnt/marker ] && echo "MARKER $(cat /mnt/marker)"
for name in $also; do
    while [ ! -b "/dev/$name" ]; do usleep 50000; done
    mkdir "/mnt-$name"
    mount -t ext4 "/dev/$name" "/mnt-$name" || echo "NO-DISK $name"
    options="$options also=/mnt-$name"
done

# Called by the agent before it freezes and after it has thawed; see tick.c.
cat >/bin/freeze-hook <<'END'
#!/bin/sh
tries=0
case $1 in
    freeze) touch /run/hold ;;
    thaw) rm -f /run/hold ;;
esac
while [ $tries -lt 500 ]; do
    case $1 in
        freeze) [ -e /run/held ] && exit 0 ;;
        thaw) [ -e /run/held ] || exit 0 ;;
    esac
    usleep 10000
    tries=$((tries + 1))
done
exit 1
END
chmod 755 /bin/freeze-hook

# What the agent runs when the guest is asked to shut down.
mkdir -p /sbin
cat >/sbin/shutdown <<'END'
#!/bin/sh
echo SHUTDOWN >/dev/console
echo o >/proc/sysrq-trigger
END
chmod 755 /sbin/shutdown

start_agent() {
    load agent
    port=
    while [ -z "$port" ]; do
        for dir in /sys/class/virtio-ports/*; do
            [ "$(cat "$dir/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] &&
                port=${dir##*/}
        done
        [ -n "$port" ] || usleep 50000
    done
    mkdir -p /dev/virtio-ports
    ln -s "/dev/$port" /dev/virtio-ports/org.qemu.guest_agent.0
    echo AGENT-UP
    exec qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 \
        -t /run -l /run/qemu-ga.log ${agent_without:+-b "$agent_without"} \
        ${also:+-F/bin/freeze-hook}
}
[ "$agent" = 1 ] && start_agent &

exec tick /mnt $options
