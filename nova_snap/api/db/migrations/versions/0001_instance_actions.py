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

"""Instance actions and their events."""

from alembic import op
import sqlalchemy as sa

revision = '0001'
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        'instance_actions',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('instance_uuid', sa.String, nullable=False),
        sa.Column('request_id', sa.String, nullable=False),
        sa.Column('action', sa.String, nullable=False),
        sa.Column('user_id', sa.String),
        sa.Column('project_id', sa.String),
        sa.Column('image_id', sa.String, nullable=False),
        sa.Column('start_time', sa.DateTime, nullable=False),
        sa.Column('updated_at', sa.DateTime, nullable=False),
        sa.Column('message', sa.String),
    )
    op.create_index(
        'instance_actions_by_request',
        'instance_actions',
        ['instance_uuid', 'request_id'],
    )
    op.create_table(
        'instance_actions_events',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column(
            'action_id',
            sa.Integer,
            sa.ForeignKey('instance_actions.id', ondelete='CASCADE'),
            nullable=False,
        ),
        sa.Column('event', sa.String, nullable=False),
        sa.Column('host', sa.String, nullable=False),
        sa.Column('start_time', sa.DateTime, nullable=False),
        sa.Column('finish_time', sa.DateTime),
        sa.Column('result', sa.String),
        sa.Column('details', sa.String),
    )
