// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/mailbox.h"

#include <pybind11/stl.h>

#include "bindings/python/src/bindings.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

// Addresses come from Tensor.data_ptr(): the caller keeps the tensor until the message is over.
void* pointer(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

py::buffer_info buffer_of(Receive& receive) {
  const penstock_array array = receive.array();
  return {const_cast<void*>(array.data), 1, py::format_descriptor<unsigned char>::format(),
          static_cast<py::ssize_t>(array.bytes)};
}

}  // namespace

void bind_mailbox(py::module_& module) {
  using unlocked = py::call_guard<py::gil_scoped_release>;
  // Names with an underscore: for penstock.torch.c10d alone.
  py::class_<Receive>(module, "_Receive", py::buffer_protocol())
      .def("wait", &Receive::wait, py::arg("timeout_ms"), unlocked())
      .def_property_readonly("source", &Receive::from)
      .def_property_readonly("note", [](const Receive& self) { return py::bytes(self.note()); })
      .def_property_readonly("nbytes", [](const Receive& self) { return self.array().bytes; })
      .def("release", &Receive::release, unlocked())
      .def_buffer(&buffer_of);
  py::class_<Mailbox>(module, "_Mailbox")
      .def(py::init<>())
      .def("host", &Mailbox::host, py::arg("options"), unlocked())
      .def("join", &Mailbox::join, py::arg("options"), py::arg("rank"), py::arg("size"), unlocked())
      .def(
          "send",
          [](Mailbox& self, std::uint32_t to, const std::string& tag, const std::string& note,
             std::uintptr_t address,
             std::size_t bytes) { return self.send(to, tag, note, pointer(address), bytes); },
          py::arg("to"), py::arg("tag"), py::arg("note"), py::arg("address"), py::arg("bytes"),
          unlocked())
      .def("sent", &Mailbox::sent, py::arg("number"), py::arg("timeout_ms"), unlocked())
      .def(
          "receive",
          [](Mailbox& self, const std::set<std::uint32_t>& sources, const std::string& tag,
             std::uintptr_t address,
             std::size_t bytes) { return self.receive(sources, tag, pointer(address), bytes); },
          py::arg("sources"), py::arg("tag"), py::arg("address") = 0, py::arg("bytes") = 0,
          py::keep_alive<0, 1>(), unlocked())
      .def("leave", &Mailbox::leave, unlocked())
      .def("linger", &Mailbox::linger, py::arg("timeout_ms"), unlocked())
      .def("destroy", &Mailbox::destroy, unlocked());
}

}  // namespace penstock::python
