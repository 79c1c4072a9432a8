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

"""Estimate of the room that the compressed clusters of a disk will need.

A sample of single clusters, spread evenly over the data, is compressed.
Compressing is deterministic, so the estimate is exact for a disk that is
sampled whole.
"""

from collections.abc import Sequence
import dataclasses
import math
import statistics

from nova_snap.qcow2 import format as qcow2_format

CLUSTER = qcow2_format.CLUSTER

#: Clusters of a sample at least; a smaller disk is sampled whole.
MIN_SAMPLE = 256
#: Clusters of a sample at most; the error is below 1 % by then.
MAX_SAMPLE = 8192
#: One of so many clusters is sampled, within these limits.  A sample is read
#: and compressed twice; twice as many save a thousandth of the image's bytes.
SAMPLE_SHARE = 80
#: Share of the probable minimum that is taken as certain.
CERTAIN = 0.98
#: A disk whose compressed share is larger than this is not compressed.
INCOMPRESSIBLE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate from a sample of the data.

    :ivar clusters: number of clusters with data.
    :ivar mean: bytes of a compressed cluster on the average.
    :ivar error: standard error of this mean, bytes.
    """

    clusters: int
    mean: float
    error: float

    @property
    def ratio(self) -> float:
        """Compressed size divided by size."""
        return self.mean / CLUSTER

    @property
    def certain(self) -> int:
        """Bytes needed at least in 99 of 100 cases, less a margin."""
        if not self.error:
            return self.reserve
        least = statistics.NormalDist(self.mean, self.error).inv_cdf(0.01)
        return math.ceil(max(0.0, least * CERTAIN) * self.clusters)

    @property
    def reserve(self) -> int:
        """Bytes to reserve, with the least expected loss.

        A byte too much is one byte of padding.  A byte too little leaves
        clusters uncompressed that would have shrunk to ``ratio``, which costs
        ``1 / ratio - 1`` bytes.  The best size is then the quantile
        ``1 - ratio`` of the distribution of the size (the newsvendor
        problem).
        """
        if not self.error:
            return math.ceil(self.mean * self.clusters)
        quantile = min(0.95, max(0.05, 1 - self.ratio))
        mean = statistics.NormalDist(self.mean, self.error).inv_cdf(quantile)
        return math.ceil(max(0.0, mean) * self.clusters)


def sample_size(clusters: int) -> int:
    """Return how many of so many clusters to sample."""
    wanted = min(MAX_SAMPLE, max(MIN_SAMPLE, clusters // SAMPLE_SHARE))
    return min(wanted, clusters)


def from_sample(sizes: Sequence[int], clusters: int) -> Estimate:
    """Estimate from the sizes of an evenly spread sample, in disk order.

    Neighbouring clusters are alike, so the variance is estimated from the
    differences of neighbours.  The error is that of a sample without
    replacement: it becomes 0 when all clusters are sampled.

    :param sizes: bytes of each cluster of the sample; not empty.
    :param clusters: number of clusters with data.
    """
    number = len(sizes)
    mean = sum(sizes) / number
    if number == clusters or number < 2:
        return Estimate(clusters, mean, 0.0)
    variance = statistics.fmean(
        (one - other) ** 2
        for one, other in zip(sizes, sizes[1:], strict=False)
    )
    unseen = 1 - number / clusters
    return Estimate(clusters, mean, math.sqrt(variance / 2 / number * unseen))
