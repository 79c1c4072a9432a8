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

"""Takes one backup with virtnbdbackup, into a local directory.

Run by the benchmark as ``python virtnbdbackup_worker.py FILE``; the
conversation is that of ``own_worker.py``, and in the end it says the
directory.  There is no image service in it: the backup is a stream of
virtnbdbackup's own format, which has to be restored to be an image.
"""

import configparser
import json
import pathlib
import subprocess
import sys


def main(config_file: str) -> None:
    """Take the backup that standard input asks for."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(config_file)
    config = parser['virtnbdbackup']
    print('ready', flush=True)
    domain = json.loads(sys.stdin.readline())['domain']
    output = pathlib.Path(config['output'], domain)
    output.parent.mkdir(exist_ok=True)
    argv = ['virtnbdbackup', '--uri', config['uri'], '--domain', domain]
    # Wanted for any URI with a socket, and asked for by no libvirtd here.
    argv += ['--user', 'any', '--password', 'any']
    argv += ['--level', 'copy', '--type', 'stream', '--noprogress']
    argv += ['--scratchdir', config['scratch'], '--output', str(output)]
    argv += ['--socketfile', f'{config["scratch"]}/{domain}.sock']
    if config.getboolean('compressed'):
        argv.append('--compress')
    subprocess.run(argv, check=True, stdout=sys.stderr)
    print(output, flush=True)
    sys.stdin.readline()


if __name__ == '__main__':
    main(sys.argv[1])
