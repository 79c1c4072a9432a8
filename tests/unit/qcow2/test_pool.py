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

import contextlib
import itertools
import time

import testtools

from nova_snap import concurrency
from nova_snap.qcow2 import pool

#: The pool's threads are native under eventlet, too.
threading = concurrency.native_module('threading')


class OrderedPoolTest(testtools.TestCase):
    def pool(self, function, jobs, threads=3, depth=None):
        made = pool.OrderedPool(function, jobs, threads, depth)
        self.addCleanup(made.close)
        return made

    def test_results_come_in_order(self):
        def late(number):
            time.sleep(0.01 if number % 3 == 0 else 0)
            return number * 2

        results = self.pool(late, range(50))
        self.assertEqual([n * 2 for n in range(50)], list(results))

    def test_works_in_several_threads(self):
        meeting = threading.Barrier(3)
        results = self.pool(lambda job: meeting.wait(10), range(3))
        self.assertEqual({0, 1, 2}, set(results))

    def test_waits_for_a_slow_consumer(self):
        begun = []
        results = self.pool(begun.append, itertools.count(), depth=5)
        next(results)
        time.sleep(0.1)
        # One taken, five begun and waiting.
        self.assertEqual(list(range(6)), sorted(begun))

    def test_error_comes_in_its_place(self):
        def divide(number):
            return 6 // (number - 2)

        results = self.pool(divide, range(9))
        self.assertEqual([-3, -6], [next(results), next(results)])
        self.assertRaises(ZeroDivisionError, next, results)

    def test_error_of_the_jobs_is_the_consumers(self):
        def jobs():
            yield 1
            raise KeyError('lost')

        results = self.pool(lambda job: job, jobs())
        self.assertEqual(1, next(results))
        self.assertRaises(KeyError, next, results)
        self.assertEqual([], list(results))

    def test_one_result_at_a_time(self):
        """Each that is taken lets one of the threads go on."""
        results = self.pool(str, range(200), threads=4, depth=1)
        self.assertEqual([str(n) for n in range(200)], list(results))

    def test_close_ends_the_threads(self):
        before = threading.active_count()
        with contextlib.closing(
            pool.OrderedPool(lambda job: job, itertools.count(), 4)
        ) as results:
            next(results)
            self.assertEqual(before + 4, threading.active_count())
        self.assertEqual(before, threading.active_count())
        results.close()

    def test_no_jobs(self):
        self.assertEqual([], list(self.pool(lambda job: job, ())))


class ShelfTest(testtools.TestCase):
    def test_lends_each_thing_to_one(self):
        shelf = pool.Shelf(['one', 'two'])
        with shelf.borrow() as first, shelf.borrow() as second:
            self.assertEqual({'one', 'two'}, {first, second})
        with shelf.borrow() as third:
            self.assertIn(third, ('one', 'two'))

    def test_gets_it_back_after_an_error(self):
        shelf = pool.Shelf(['only'])
        with contextlib.suppress(KeyError), shelf.borrow():
            raise KeyError
        with shelf.borrow() as thing:
            self.assertEqual('only', thing)
