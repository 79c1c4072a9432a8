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

"""What every operation promises, whatever it does: the same tests for each.

Live and cold snapshots of a real disk are in ``test_promises_libvirt.py``.
"""

from tests.unit import base
from tests.unit.compute import promise_tests
from tests.unit.compute import promises


class ImageCreateTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of the command."""

    operation_class = promises.ImageCreate


class ImageSetTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of all disks of an instance."""

    operation_class = promises.ImageSet


class SnapshotOfNovaTest(promise_tests.PromiseTests, base.TestCase):
    """A snapshot of nova-compute."""

    operation_class = promises.SnapshotOfNova


class ExportTest(promise_tests.PromiseTests, base.TestCase):
    """An export to a file."""

    operation_class = promises.Export


class VolumeBackedTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of an instance that boots from a volume."""

    operation_class = promises.VolumeBacked
