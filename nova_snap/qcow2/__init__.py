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

"""Write a qcow2 image as a stream: in order, in one pass, never seeking.

Open this package when an image has to go somewhere while it is being read.
It knows neither libvirt nor Glance, and of this project only
:mod:`nova_snap.concurrency`.  To use it, see :mod:`nova_snap.qcow2.writer`;
``python -m nova_snap.qcow2`` is the same as a command.

========================  ================================================
module                    the one thing that it knows
========================  ================================================
``format``                the bytes of the format: header, entries
``allocation``            which clusters hold data
``layout``                where everything lies in the file
``tables``                the bytes of L1, L2 and refcount tables
``source``                what is read: the protocol, and checked reads
``file_source``           raw files and block devices
``nbd_source``            NBD exports, over several of ``nbd_connection``
``libnbd``                where the Python binding of libnbd is
``throttle``              a source that is read no faster than wished
``codec``                 zstd and zlib clusters
``zone``                  compressed clusters and where they lie
``packer``                from source clusters to compressed bytes
``estimate``              how much room compressed clusters need: arithmetic
``reserve``               the same by samples of the data
``pool``                  work done ahead by threads, in order
``writer``                the two ways of writing a qcow2 image
``raw``                   the way of writing a raw one
``stream``                what a caller gets: chunks, or a file to read
========================  ================================================
"""
