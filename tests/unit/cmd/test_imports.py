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

"""What a command imports before it is known to be needed."""

import subprocess
import sys

from tests.unit import base

#: Each takes a tenth of the time of a short command, or more.
SLOW = {'eventlet', 'glanceclient', 'keystoneauth1', 'oslo_utils.strutils'}


class ImportsTest(base.TestCase):
    def test_explain_imports_nothing_slow(self):
        program = 'import sys, nova_snap.cmd.servers; print(*sys.modules)'

        imported = subprocess.run(
            [sys.executable, '-c', program],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()

        self.assertIn('nova_snap.virt.libvirt.driver', imported)
        self.assertEqual(set(), SLOW & set(imported))
