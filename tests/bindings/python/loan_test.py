# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""What may be lent, by whom, for how long, and what is refused in which words."""
import gc
import unittest

import numpy
import penstock
from penstock import errors

import capsule
import job


def declare(worker, gradients, parameters, **properties):
    worker.declare([penstock.Tensor(1, gradients, parameters,
                                    optimizer="sgd:learning_rate=1", **properties)])


def step(worker, number=1):
    worker.push_pull(1, number)
    worker.wait(1, number)


class Lending(unittest.TestCase):
    def lends(self, export):
        def train(worker):
            gradients, parameters = (numpy.full((2, 3), v, "float32") for v in (0.25, 1))
            declare(worker, export(gradients), export(parameters))
            step(worker)
            numpy.testing.assert_array_equal(parameters, numpy.full((2, 3), 0.75, "float32"))

        job.run(train)

    def test_takes_numpy(self):
        self.lends(lambda array: array)

    def test_takes_a_legacy_capsule(self):
        self.lends(lambda array: array.__dlpack__())

    def test_takes_a_versioned_capsule(self):
        self.lends(lambda array: self.keep(capsule.Exporter(array)).capsule())

    def test_takes_whoever_exports_a_versioned_capsule(self):
        self.lends(lambda array: self.keep(capsule.Exporter(array)))

    def test_takes_read_only_gradients(self):
        def train(worker):
            gradients, parameters = numpy.ones((2, 4), "float32")
            declare(worker, capsule.Exporter(gradients, flags=capsule.READ_ONLY), parameters)
            step(worker)
            self.assertEqual(parameters.tolist(), [0] * 4)

        job.run(train)

    def test_gives_memory_back_once_when_its_key_is_removed(self):
        def train(worker):
            lenders = [capsule.Exporter(numpy.zeros(8, "float32"), versioned=v) for v in (True, False)]
            declare(worker, *lenders)
            step(worker)
            self.assertEqual([lender.returned for lender in lenders], [0, 0])
            worker.remove([1])
            self.assertEqual([lender.returned for lender in lenders], [1, 1])

        job.run(train)

    def test_gives_memory_back_once_when_the_worker_closes(self):
        lenders = [self.keep(capsule.Exporter(numpy.zeros(8, "float32"))) for _ in range(2)]
        job.run(lambda worker: declare(worker, *lenders))
        self.assertEqual([lender.returned for lender in lenders], [1, 1])

    def test_keeps_memory_of_a_declaration_that_failed_until_the_worker_closes(self):
        lenders = [[self.keep(capsule.Exporter(numpy.zeros(elements, "float32"))) for _ in range(2)]
                   for elements in (8, 9)]

        def train(worker):
            with self.assertRaises(errors.Mismatch):
                declare(worker, *lenders[worker.rank])
            self.assertEqual([lender.returned for lender in lenders[worker.rank]], [0, 0])

        job.run(train, workers=2)
        self.assertEqual([lender.returned for pair in lenders for lender in pair], [1] * 4)

    def test_takes_memory_of_the_worker_which_outlives_it(self):
        def train(worker):
            memory = worker.allocate(2 * 4096)
            gradients, parameters = numpy.frombuffer(memory, "float32").reshape(2, -1)
            self.assertFalse(gradients.any())
            del memory
            gradients[:] = 2
            declare(worker, gradients, parameters)
            step(worker)
            return parameters

        for transport in ("tcp", "shm"):
            parameters, = job.run(train, transport=transport)
            gc.collect()
            numpy.testing.assert_array_equal(parameters, numpy.full(1024, -2, "float32"))
            parameters[:] = 5  # still mapped

    def keep(self, thing):
        self.addCleanup(lambda: thing)
        return thing


class Refusals(unittest.TestCase):
    """Of parameters, by a worker that is good for another declaration afterwards."""

    def refuse(self, cases):
        def train(worker):
            good = numpy.zeros((2, 3), "float32")
            for parameters, kind, words in cases:
                with self.subTest(words), self.assertRaisesRegex(kind, words):
                    declare(worker, numpy.zeros((2, 3), "float32"), parameters)
            declare(worker, numpy.ones((2, 3), "float32"), good)
            step(worker)
            self.assertEqual(good.tolist(), [[-1] * 3] * 2)

        job.run(train)

    def test_of_numpy_arrays(self):
        fixed = numpy.zeros((2, 3), "float32")
        fixed.flags.writeable = False
        self.refuse([
            (numpy.zeros((3, 2), "float32").T, errors.InvalidArgument, "key 1: parameters are strided"),
            (numpy.zeros((2, 6), "float32")[:, ::2], errors.InvalidArgument, "strided; lend a contig"),
            (numpy.zeros((3, 2), "float32"), errors.InvalidArgument, r"shape \[2,3\], param.*\[3,2\]"),
            (numpy.zeros((2, 3)), errors.Unsupported, "64 bits.*lend float32, float16 or bfloat16"),
            (numpy.zeros((0, 3), "float32"), errors.InvalidArgument, "0 elements in dimension 0"),
            (fixed, errors.InvalidArgument, "key 1: parameters .*[Rr]ead-?only"),
            ([[0.0] * 3] * 2, TypeError, "key 1: parameters are of type list; lend a numpy"),
        ])

    def test_of_capsules(self):
        def export(**options):
            lender = capsule.Exporter(numpy.zeros((2, 3), "float32"), **options)
            lenders.append(lender)
            return lender

        lenders = []
        used = export().capsule()
        bad = [
            (export(major=2), errors.InvalidArgument, "by DLPack 2.1; versions 1.x and the legacy"),
            (export(flags=capsule.COPIED), errors.InvalidArgument, "came as a copy"),
            (export(flags=capsule.READ_ONLY), errors.InvalidArgument, "parameters are read-only"),
            (export(device=2), errors.Unsupported, "device type 2 of DLPack; lend CPU or CUDA-pinned"),
            (export(device=2, versioned=False), errors.Unsupported, "device type 2 of DLPack"),
            (used, errors.InvalidArgument, "shape"),
            (used, errors.InvalidArgument, 'capsule named "used_dltensor_versioned"; one is used once'),
        ]
        lenders[0]._shape[0] = 3  # the wrong shape: the capsule is used up by being refused
        self.refuse(bad)
        self.assertEqual([lender.returned for lender in lenders], [1] * len(lenders))

    def test_of_torch_tensors(self):
        try:
            import torch  # pylint: disable=import-outside-toplevel
        except ImportError as error:
            self.skipTest(f"{error}; install python3-torch")
        self.refuse([
            (torch.zeros(2, 3, requires_grad=True), errors.InvalidArgument, "cannot be lent.*detach"),
            (torch.zeros(3, 2).t(), errors.InvalidArgument, "strided"),
        ])

    def test_of_what_is_no_tensor(self):
        def train(worker):
            arrays = numpy.zeros((2, 3), "float32")
            for given, words in (((-1, *arrays, {}), "key -1 is not a whole number from 0"),
                                 (("a", *arrays, {}), "key 'a' is not a whole number"),
                                 ((1, *arrays), "declare.. takes penstock.Tensor or .*, not tuple"),
                                 ((1, *arrays, 2), "not tuple"), (5, "not int")):
                with self.assertRaisesRegex(errors.InvalidArgument, words):
                    worker.declare([given])

        job.run(train)

    def test_of_properties(self):
        def train(worker):
            for properties, kind, words in (
                    ({"reduce": "max"}, errors.InvalidArgument, "reduce is \"max\", but must be"),
                    ({"gradient_scale": -1}, errors.InvalidArgument, "gradient_scale|scale"),
                    ({"initial": "ones"}, errors.InvalidArgument, "initial is \"ones\", but must")):
                with self.assertRaisesRegex(kind, words):
                    declare(worker, *numpy.zeros((2, 3), "float32"), **properties)

        job.run(train)


if __name__ == "__main__":
    unittest.main()
