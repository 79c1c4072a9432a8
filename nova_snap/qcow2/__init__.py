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

"""Writer of qcow2 images as a stream: in one pass, without seeking.

Open this package to send an image somewhere while its disk is being read.
The package knows neither libvirt nor Glance, and of this project only
:mod:`nova_snap.concurrency`.  To use it, see :mod:`nova_snap.qcow2.writer`;
``python -m nova_snap.qcow2`` does the same as a command.

========================  ================================================
module                    content
========================  ================================================
``format``                the bytes of the format: header, entries
``allocation``            the clusters with data
``layout``                the offsets of all parts of the file
``tables``                the bytes of L1, L2 and refcount tables
``source``                the protocol of sources, and checked reads
``file_source``           raw files and block devices
``nbd_source``            NBD exports, over several of ``nbd_connection``
``libnbd``                the search for the Python binding of libnbd
``throttle``              a source with a limited bandwidth
``codec``                 compression of a cluster by zstd or zlib
``zone``                  compressed clusters and their offsets
``packer``                reading and compressing of spans of clusters
``estimate``              arithmetic: the size of all compressed clusters
``reserve``               sizes of the zones, from samples of the data
``pool``                  native threads with results in order
``writer``                the functions that write a qcow2 image
``raw``                   the function that writes a raw image
``stream``                the result: chunks of bytes, or a file to read
========================  ================================================
"""
