// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/request.h"

#include "bindings/python/src/answer.h"
#include "bindings/python/src/bindings.h"
#include "bindings/python/src/error.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

py::bytes bytes_of(const penstock_array& array) {
  return {static_cast<const char*>(array.data), array.bytes};
}

py::object view_of(const py::object& array) {
  return py::reinterpret_steal<py::object>(PyMemoryView_FromObject(array.ptr()));
}

// The loans of an answer, given back by whichever thread learns that the worker has it.
void release_loans(void* context) {
  if (Py_IsInitialized() == 0) return;  // nobody is left to give them to
  const py::gil_scoped_acquire held;
  delete static_cast<std::vector<Loan>*>(context);
}

}  // namespace

Answer::Answer(std::shared_ptr<WorkerHandle> handle, penstock_answer* answer)
    : state_(std::make_shared<State>()) {
  state_->handle = std::move(handle);
  state_->answer = answer;
}

py::bytes Answer::head() const { return bytes_of(penstock_answer_head(state_->answer)); }

py::list Answer::arrays() const {
  py::list all;
  for (std::size_t i = 0; i < penstock_answer_count(state_->answer); ++i)
    all.append(view_of(py::cast(Array{penstock_answer_get(state_->answer, i), state_})));
  return all;
}

Request::Request(Handler& handler, penstock_request* request)
    : handler_(&handler), request_(request) {
  handler.open.insert(this);
  for (std::size_t i = 0; i < penstock_request_count(request); ++i) {
    arrays_.append(py::cast(Array{penstock_request_get(request, i), nullptr}));
    views_.append(view_of(arrays_[i]));
  }
}

Request::~Request() {
  if (owner_.here()) cancel("the server's handler dropped this request without an answer");
}

void Request::cancel(const char* why) {
  if (request_ != nullptr) (void)penstock_request_fail(end(), PENSTOCK_CANCELLED, why);
}

penstock_request* Request::end() {
  handler_->open.erase(this);
  return std::exchange(request_, nullptr);
}

void Request::check_open() const {
  if (request_ == nullptr)
    raise(PENSTOCK_INVALID_ARGUMENT, "this request has been answered or has failed already");
  owner_.check("this request");
}

std::uint32_t Request::worker() const {
  check_open();
  return penstock_request_worker(request_);
}

py::bytes Request::head() const {
  check_open();
  return bytes_of(penstock_request_head(request_));
}

py::list Request::arrays() const {
  check_open();
  return py::list(views_);
}

// The request's memory goes with its answer, so nobody may look at it any more.
void Request::release_views() {
  for (std::size_t i = 0; i < views_.size(); ++i) {
    bool free = true;
    try {
      views_[i].attr("release")();
      free = Py_REFCNT(PyList_GET_ITEM(arrays_.ptr(), static_cast<py::ssize_t>(i))) == 1;  // ours
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_BufferError)) throw;
      free = false;
    }
    if (free) continue;
    for (std::size_t j = 0; j <= i; ++j) views_[j] = view_of(arrays_[j]);
    raise(PENSTOCK_INVALID_ARGUMENT, "array " + std::to_string(i) +
                                         " of the request is still looked at; let go of every view "
                                         "of it, or copy it, before the request is answered");
  }
}

void Request::answer(const py::bytes& head, const py::sequence& arrays) {
  check_open();
  auto loans = std::make_unique<std::vector<Loan>>();
  std::vector<penstock_array> lent;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const py::object array = arrays[i];
    bool own = false;  // one of the request's own, which the library keeps
    for (std::size_t j = 0; j < views_.size() && !own; ++j) {
      own = array.is(views_[j]);
      if (own) lent.push_back(penstock_request_get(request_, j));
    }
    if (own) continue;
    loans->push_back(Loan::of_bytes(array, "array " + std::to_string(i), Access::kRead));
    lent.push_back({loans->back().data(), loans->back().bytes()});
  }
  release_views();
  const auto bytes = static_cast<std::string_view>(head);
  // The GIL stays held: Server.close() must not come between. Nothing waits in here.
  check(penstock_request_answer(end(), {bytes.data(), bytes.size()}, lent.data(), lent.size(),
                                &release_loans, loans.release()));
}

void Request::fail(int status, const std::string& why) {
  check_open();
  release_views();
  check(penstock_request_fail(end(), status, why.c_str()));
}

void Handler::cancel_all() {
  closing = true;
  while (!open.empty()) (*open.begin())->cancel("the server is closing");
}

void call_handler(penstock_request* request, void* context) {
  const py::gil_scoped_acquire held;
  auto& handler = *static_cast<Handler*>(context);
  if (handler.closing) {
    (void)penstock_request_fail(request, PENSTOCK_CANCELLED, "the server is closing");
    return;
  }
  const auto made = std::make_shared<Request>(handler, request);
  try {
    handler.callable(made);
  } catch (py::error_already_set& error) {
    const std::string why = error.what();
    error.discard_as_unraisable("the handler of a penstock.Server");
    made->cancel(why.substr(0, PENSTOCK_MAX_HEAD).c_str());
  }
}

void bind_requests(py::module_& module) {
  py::class_<Array>(module, "Array", py::buffer_protocol(), "Bytes behind a memoryview.")
      .def_buffer([](const Array& array) {
        auto* const data = static_cast<unsigned char*>(const_cast<void*>(array.bytes.data));
        const auto size = static_cast<py::ssize_t>(array.bytes.bytes);
        return py::buffer_info(data, 1, "B", 1, {size}, {1}, true);
      });
  py::class_<Answer>(module, "Answer", "What a server's handler answered.")
      .def_property_readonly("head", &Answer::head, "bytes, at most 1008.")
      .def_property_readonly("arrays", &Answer::arrays,
                             "A list of read-only memoryviews of bytes, at most 4, not copied.");
  py::class_<Request, std::shared_ptr<Request>>(module, "Request",
                                                "A worker's question, given to Server(handler=…). "
                                                "Answer it once, at once or later, from any\n"
                                                "thread. One that is dropped fails with Cancelled.")
      .def_property_readonly("worker", &Request::worker, "The rank of who asks.")
      .def_property_readonly("head", &Request::head, "bytes, at most 1008.")
      .def_property_readonly(
          "arrays", &Request::arrays,
          "Read-only memoryviews of bytes, at most 4, not copied. Let go of them "
          "(and of what was\nmade of them) before answering.")
      .def("answer", &Request::answer, py::arg("head") = py::bytes(),
           py::arg("arrays") = py::tuple(),
           "arrays: at most 4, numpy, torch or bytes, contiguous in host memory, lent until the "
           "worker has\nthem; the request's own arrays may be among them.")
      .def("fail", &Request::fail, py::arg("status"), py::arg("why") = "",
           "The worker's answer() raises the exception of this status (penstock.Status) with these "
           "words.");
}

}  // namespace penstock::python
