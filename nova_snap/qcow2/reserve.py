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

"""Sizes of the two zones, from compressed samples of the data.

The first zone has to become full, and the second should end where the
compressed data ends.  ``estimate`` has the arithmetic.
"""

import contextlib
import itertools
from typing import Protocol

from nova_snap.qcow2 import allocation as allocation_lib
from nova_snap.qcow2 import estimate
from nova_snap.qcow2 import packer as packer_lib
from nova_snap.qcow2 import pool as pool_lib


class Reserve(Protocol):
    """Chooses the sizes of the zones; the image is correct with any sizes."""

    def first(self) -> int | None:
        """Return the bytes of the first zone; None if compressing is useless.

        A plain image is written then.
        """

    def second(self, behind: int) -> int:
        """Return the bytes of the second zone.

        :param behind: the clusters in the first zone, less than there are.
        """


class Sampled:
    """Sizes from two samples, one before the first zone and one behind it.

    :param allocation: the clusters with data.
    :param packer: reads and compresses the samples.
    """

    def __init__(
        self,
        allocation: allocation_lib.Allocation,
        packer: packer_lib.Packer,
    ) -> None:
        self._allocation = allocation
        self._packer = packer

    def first(self) -> int | None:
        """Return the bytes that the data needs almost certainly."""
        if not self._allocation.count:
            return 0
        found = self._sample(0)
        if found.ratio > estimate.INCOMPRESSIBLE:
            return None
        return found.certain

    def second(self, behind: int) -> int:
        """Return the bytes to reserve for the rest of the data."""
        return self._sample(behind).reserve

    def _sample(self, behind: int) -> estimate.Estimate:
        clusters = self._allocation.count - behind
        number = estimate.sample_size(clusters)
        pool = pool_lib.OrderedPool(
            self._packer,
            self._allocation.sample(number, behind),
            self._packer.threads,
        )
        with contextlib.closing(pool):
            sizes = list(
                itertools.chain.from_iterable(
                    batch.sizes or () for batch in pool
                )
            )
        return estimate.from_sample(sizes, clusters)
