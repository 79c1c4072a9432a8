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

"""Answers of handlers."""

import json as json_lib
from typing import Any

import webob


def json(document: Any, status: int = 200) -> webob.Response:
    """Return an answer with a JSON document."""
    return webob.Response(
        status=status,
        content_type='application/json',
        charset='UTF-8',
        text=json_lib.dumps(document),
    )


def empty(status: int) -> webob.Response:
    """Return an answer without a body, such as 202 or 204."""
    found = webob.Response(status=status)
    found.content_type = None
    return found
