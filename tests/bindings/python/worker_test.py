# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
import ast
import pathlib
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


class Stubs(unittest.TestCase):
    def test_name_what_the_module_has_and_all_of_it_is_documented(self):
        module = penstock._penstock
        source = pathlib.Path(penstock.__file__).with_name("_penstock.pyi").read_text("utf-8")
        stubs = {node.name: {member.name for member in node.body} - {"__init__", "__buffer__"}
                 for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
        classes = {name: kind for name, kind in vars(module).items()
                   if isinstance(kind, type) and not name.startswith("_")}
        self.assertEqual(set(stubs), set(classes))
        for name, kind in classes.items():
            self.assertTrue(kind.__doc__, name)
            members = {member for member in vars(kind)
                       if not member.startswith("_") or member in ("__enter__", "__exit__", "__len__")}
            self.assertEqual(stubs[name], members, name)
            for member in members:
                if not member.startswith("_"):
                    self.assertTrue(getattr(kind, member).__doc__, f"{name}.{member}")


if __name__ == "__main__":
    unittest.main()
