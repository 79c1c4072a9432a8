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

"""Errors of writing an image; the callers of the package translate them.

The package does not depend on :mod:`nova_snap.exception`.
"""


class Qcow2Error(Exception):
    """Base class of the errors of this package."""


class SourceError(Qcow2Error):
    """The source could not be opened or read, or contradicts itself.

    :ivar source: a path or a URI.
    :ivar reason: a sentence.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f'Cannot read {source}: {reason}')


class UnsupportedSize(Qcow2Error):
    """The disk is larger than QEMU opens; ``size`` in bytes."""

    def __init__(self, size: int, maximum: int) -> None:
        self.size = size
        self.maximum = maximum
        super().__init__(
            f'A disk of {size} bytes does not fit a qcow2 image with '
            f'64 KiB clusters; QEMU opens at most {maximum} bytes.'
        )


class InvalidLevel(Qcow2Error):
    """The ``level`` of compression is not one of the valid ``levels``."""

    def __init__(self, level: int, levels: range) -> None:
        self.level = level
        self.levels = levels
        super().__init__(
            f'There is no level of compression {level}; '
            f'levels go from {levels[0]} to {levels[-1]}.'
        )


class LibraryMissing(Qcow2Error):
    """A library that is needed is not installed.

    :ivar library: its name.
    :ivar remedy: the package to install.
    """

    def __init__(self, library: str, remedy: str) -> None:
        self.library = library
        self.remedy = remedy
        super().__init__(f'{library} is not installed; install {remedy}.')
