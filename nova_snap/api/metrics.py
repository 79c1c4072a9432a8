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

"""``/metrics``: what the service measures, for Prometheus.

Open this file to add a measurement.  The numbers come from the operations
(``progress.Measured``) and from the table of snapshots; none names a server,
an image, or a project.  https://prometheus.io/docs/practices/naming/
"""

from collections.abc import Iterable
import time

import prometheus_client
from prometheus_client import core
from prometheus_client import registry

from nova_snap import exception
from nova_snap.api import snapshots as snapshots_lib

#: The media type of :meth:`Metrics.text`.
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

#: The methods of ``progress.Measured``: each has its numbers from the start.
METHODS = ('cold', 'mirror', 'pull', 'rbd_direct', 'volumes')

RESULTS = ('cancelled', 'done', 'failed')

#: Seconds.  Images take from a second to hours; guests are frozen for
#: milliseconds, and at most for as long as [cinder] frozen_timeout allows.
DURATIONS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000)
FROZEN = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics(snapshots_lib.Observer):
    """The measurements of one service since its start."""

    def __init__(self) -> None:
        own = registry.CollectorRegistry()
        self._registry = own
        self._ended = prometheus_client.Counter(
            'nova_snap_snapshots',
            'Snapshots that have ended, by how the disks were read.',
            ('method', 'result'),
            registry=own,
        )
        self._waited = prometheus_client.Histogram(
            'nova_snap_snapshot_wait_seconds',
            'Time from the request for a snapshot until its turn.',
            registry=own,
            buckets=DURATIONS,
        )
        self._duration = prometheus_client.Histogram(
            'nova_snap_snapshot_duration_seconds',
            'Time from the turn of a snapshot until its image was active.',
            ('method',),
            registry=own,
            buckets=DURATIONS,
        )
        self._bytes = prometheus_client.Counter(
            'nova_snap_image_bytes',
            'Bytes of images that were sent to the image service, complete.',
            ('method',),
            registry=own,
        )
        self._frozen = prometheus_client.Histogram(
            'nova_snap_guest_frozen_seconds',
            'Time for which the file systems of a guest were frozen.',
            ('method',),
            registry=own,
            buckets=FROZEN,
        )
        for method in METHODS:
            self._bytes.labels(method)
            self._duration.labels(method)
            self._frozen.labels(method)
            for result in RESULTS:
                self._ended.labels(method, result)
        prometheus_client.ProcessCollector(registry=own)

    def observe(self, found: Iterable[snapshots_lib.Snapshot]) -> None:
        """Report the snapshots that run and wait, whenever asked.

        :param found: yields them anew each time.
        """
        self._registry.register(_Current(found))

    def text(self) -> bytes:
        """Return all measurements in Prometheus' text format."""
        return prometheus_client.generate_latest(self._registry)

    def began(self, snapshot: snapshots_lib.Snapshot) -> None:
        """Note how long a snapshot has waited."""
        self._waited.observe(time.monotonic() - snapshot.accepted_at)

    def ended(
        self, snapshot: snapshots_lib.Snapshot, error: Exception | None
    ) -> None:
        """Note what a snapshot has done, and how it ended."""
        measured = snapshot.progress.measured
        method = measured.method
        self._ended.labels(method, _result(error)).inc()
        self._bytes.labels(method).inc(measured.image_bytes)
        if measured.frozen_seconds is not None:
            self._frozen.labels(method).observe(measured.frozen_seconds)
        if error is None and snapshot.began_at is not None:
            self._duration.labels(method).observe(
                time.monotonic() - snapshot.began_at
            )


class _Current(registry.Collector):
    """Counts the snapshots of a service when Prometheus asks."""

    def __init__(self, found: Iterable[snapshots_lib.Snapshot]) -> None:
        self._found = found

    def collect(self) -> Iterable[core.GaugeMetricFamily]:
        """Yield the number that run, and the number that wait."""
        running = dict.fromkeys(METHODS, 0)
        waiting = dict(running)
        for snapshot in self._found:
            if not snapshot.image_id:
                continue  # its request is not answered yet
            counts = waiting if snapshot.is_waiting else running
            method = snapshot.progress.measured.method
            counts[method] = counts.get(method, 0) + 1
        for state, counts in (('running', running), ('waiting', waiting)):
            family = core.GaugeMetricFamily(
                f'nova_snap_snapshots_{state}',
                f'Snapshots that are {state}.',
                labels=('method',),
            )
            for method, count in counts.items():
                family.add_metric((method,), count)
            yield family


def _result(error: Exception | None) -> str:
    if error is None:
        return 'done'
    if isinstance(error, exception.SnapshotCancelled):
        return 'cancelled'
    return 'failed'
