// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/python/src/answer.h"
#include "bindings/python/src/bindings.h"
#include "bindings/python/src/worker.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

constexpr const char* kWorkerDoc =
    "A training process of a job; returns when the job is complete.\n\n"
    "Options by keyword, those of penstock.h: scheduler=\"host:port\", listen, "
    "transport=\"auto\",\n"
    "rank, secret_file, insecure=False, encrypt=False, pin=True, detect_ms=3000, timeout_ms=30000, "
    "…\n"
    "declare, remove and barrier are collective: every worker makes the same calls in the same "
    "order.\n"
    "Methods may be called from any threads, those on one key from one thread at a time.\n"
    "In a with block: on the way out it leaves the job; an exception makes it go without, which\n"
    "the others see as a death.";

constexpr const char* kDeclareDoc =
    "declare(tensors): an iterable of Tensor, or of (key, gradients, parameters, properties).\n\n"
    "Lends both arrays until remove() or close(), and fills the parameters with their initial "
    "values.";

// Without leave() the others take the end for a death, which an exception is.
void leave_block(Worker& worker, const py::object& exception_type) {
  try {
    if (exception_type.is_none() && !worker.over()) worker.leave();
  } catch (...) {
    worker.close();
    throw;
  }
  worker.close();
}

void bind_rounds(py::class_<Worker>& worker) {
  worker
      .def("push_pull", &Worker::push_pull, py::arg("key"), py::arg("round"),
           "Starts round 1, 2, 3, … of a key and returns at once: its gradients go to the servers, "
           "its\nparameters come back. Both are the caller's again when wait() returns.")
      .def("pull", &Worker::pull, py::arg("key"), py::arg("round"),
           "The same with nothing to add: this worker only receives the round's parameters.")
      .def("wait", &Worker::wait, py::arg("key"), py::arg("round"),
           py::arg("timeout_s") = py::none(),
           "Returns when the round is over. timeout_s: seconds, inf for ever, None for the option\n"
           "timeout_ms. Raises Timeout naming what is missing (the round goes on and may be waited "
           "for\nagain), PeerLost naming who is gone, NotFinite. Releases the GIL.")
      .def("test", &Worker::test, py::arg("key"), py::arg("round"), "True when the round is over.");
}

void bind_kept(py::class_<Worker>& worker) {
  worker
      .def("read_state", &Worker::read_state, py::arg("key"), py::arg("timeout_s") = py::none(),
           "What the servers keep of a key: (steps, planes). steps: those the optimizer has made; "
           "planes:\n(\"float32\" or \"bfloat16\", bytearray) of the flattened tensor, the "
           "parameters in float32 first,\nthen the optimizer's. No round of the key may be "
           "running on any worker: barrier before.")
      .def("write_state", &Worker::write_state, py::arg("key"), py::arg("steps"), py::arg("planes"),
           py::arg("timeout_s") = py::none(),
           "Puts it back; planes: arrays as read_state() gave them. One worker calls, between two\n"
           "barriers. The workers' parameter arrays are not touched.")
      .def("publish", &Worker::publish, py::arg("name"), py::arg("version"), py::arg("tensor"),
           py::arg("timeout_s") = py::none(),
           "Leaves a tensor of any shape and dtype at a server for fetch() of any worker, which "
           "keeps the\nnewest version. Raises Stale when this one or a newer one is there.")
      .def("fetch", &Worker::fetch, py::arg("name"), py::arg("into"), py::arg("version") = 0,
           py::arg("timeout_s") = py::none(),
           "Fills `into` with the newest version, at least `version`, waiting for one; returns "
           "which.\nRaises Mismatch when it was published with another dtype or shape.")
      .def("withdraw", &Worker::withdraw, py::arg("name"), py::arg("timeout_s") = py::none(),
           "Frees what was published. Raises NotFound.");
}

}  // namespace

void bind_worker(py::module_& module) {
  py::class_<Memory>(module, "Memory", py::buffer_protocol(),
                     "Registered memory of a worker's: a writable buffer of bytes, for "
                     "numpy.frombuffer and\ntorch.frombuffer.")
      .def_buffer([](Memory& memory) {
        return py::buffer_info(static_cast<unsigned char*>(memory.data), 1, "B", 1,
                               {static_cast<py::ssize_t>(memory.bytes)}, {1}, false);
      })
      .def("__len__", [](const Memory& memory) { return memory.bytes; });

  py::class_<Worker> worker(module, "Worker", kWorkerDoc);
  worker.def(py::init<const py::kwargs&>())
      .def_property_readonly("rank", &Worker::rank, "0 … workers − 1.")
      .def_property_readonly("workers", &Worker::workers, "How many workers the job has.")
      .def_property_readonly("servers", &Worker::servers, "How many servers the job has.")
      .def("declare", &Worker::declare, py::arg("tensors"), kDeclareDoc)
      .def("remove", &Worker::remove, py::arg("keys"),
           "Forgets keys; no round of them may be running. Their memory is the caller's again.")
      .def("barrier", &Worker::barrier, "Returns when every worker has called it.")
      .def(
          "allocate", &Worker::allocate, py::arg("nbytes"),
          "Zeroed, page-aligned, registered memory in which servers of this host read gradients "
          "in\n"
          "place. It lives as long as what is made of it; the worker's threads live as long as it.")
      .def("request", &Worker::request, py::arg("server"), py::arg("channel") = 0,
           py::arg("head") = py::bytes(), py::arg("arrays") = py::tuple(),
           py::arg("places") = py::tuple(),
           "Asks the handler of a server; returns a number for answer(), at once. head: at most "
           "1008\n"
           "bytes; arrays: at most 4, contiguous host memory, lent until the answer is taken; "
           "places:\nwhere array i of the answer is to land if it has exactly that length and is "
           "over "
           "16 KiB.")
      .def("answer", &Worker::answer, py::arg("number"), py::arg("timeout_s") = py::none(),
           "The Answer to a request, once; timeout_s as in wait(). Raises what the handler failed "
           "with.")
      .def("counters", &Worker::counters,
           "{name: value} of the data that moved, \"tcp.bytes_sent\" and the like.")
      .def("leave", &Worker::leave,
           "Ends this worker's part; no round may be running. Only close() is of use afterwards.")
      .def("close", &Worker::close,
           "Ends its threads and connections and gives back what was lent. Memory from allocate() "
           "that\nis still in use keeps them. Does nothing the second time.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](Worker& self, const py::object& type, const py::object&,
                          const py::object&) { leave_block(self, type); });
  bind_rounds(worker);
  bind_kept(worker);
}

}  // namespace penstock::python
