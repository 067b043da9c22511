# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
import unittest

import numpy
import penstock

import job


class Rounds(unittest.TestCase):
    def test_train_in_the_arrays_that_were_lent(self):
        def train(worker):
            gradients = numpy.full(1000, 1 + worker.rank, "float32")
            parameters = numpy.ones(1000, "float32")
            where = parameters.ctypes.data
            worker.declare([penstock.Tensor(1, gradients, parameters,
                                            optimizer="sgd:learning_rate=0.25")])
            for number in range(1, 5):
                worker.push_pull(1, number)
                worker.wait(1, number, timeout_s=10)
                self.assertTrue(worker.test(1, number))
            self.assertEqual(parameters.ctypes.data, where)
            return parameters.copy()

        for parameters in job.run(train, workers=2, servers=2):
            numpy.testing.assert_array_equal(parameters, numpy.full(1000, 1 - 4 * 0.25 * 1.5, "float32"))


class Requests(unittest.TestCase):
    def test_are_answered_by_the_handler(self):
        def handle(request):
            if request.head == b"echo":
                request.answer(request.head, request.arrays)
            elif request.head == b"wrong":
                raise ValueError("no such thing")
            else:
                request.fail(penstock.Status.NOT_FOUND, "nobody knows " + request.head.decode())

        def train(worker):
            sent = numpy.arange(100_000, dtype="int32")
            place = numpy.zeros_like(sent)
            number = worker.request(0, head=b"echo", arrays=[sent, b"small"], places=[place])
            answer = worker.answer(number, timeout_s=10)
            self.assertEqual(answer.head, b"echo")
            self.assertEqual(bytes(answer.arrays[1]), b"small")
            numpy.testing.assert_array_equal(numpy.frombuffer(answer.arrays[0], "int32"), sent)
            numpy.testing.assert_array_equal(place, sent)
            with self.assertRaisesRegex(penstock.errors.NotFound, "nobody knows Ann"):
                worker.answer(worker.request(0, head=b"Ann"))
            with self.assertRaisesRegex(penstock.errors.Cancelled, "no such thing"):
                worker.answer(worker.request(0, head=b"wrong"))

        job.run(train, handler=handle)


if __name__ == "__main__":
    unittest.main()
