// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/bindings.h"
#include "bindings/python/src/options.h"
#include "bindings/python/src/request.h"
#include "bindings/python/src/wait.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

class Scheduler {
 public:
  explicit Scheduler(const py::kwargs& given) : options_(given) {
    without_gil([&] { return penstock_scheduler_start(options_.get(), &handle_); });
    address_ = penstock_scheduler_address(handle_);
  }
  ~Scheduler() { close(); }
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  const std::string& address() const { return address_; }
  void wait(std::optional<double> timeout_s) {
    wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()),
                   [&](std::int64_t ms) { return penstock_scheduler_wait(handle_, ms); });
  }
  void close() {
    const py::gil_scoped_release released;
    penstock_scheduler_destroy(handle_);
    handle_ = nullptr;
  }

 private:
  Options options_;
  penstock_scheduler* handle_ = nullptr;
  std::string address_;
};

class Server {
 public:
  Server(py::object handler, const py::kwargs& given) : options_(given) {
    handler_.callable = std::move(handler);
    if (!handler_.callable.is_none())
      check(penstock_options_set_handler(options_.get(), &call_handler, &handler_));
    without_gil([&] { return penstock_server_start(options_.get(), &handle_); });
  }
  ~Server() { close(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void wait(std::optional<double> timeout_s) {
    wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()),
                   [&](std::int64_t ms) { return penstock_server_wait(handle_, ms); });
  }
  void close() {
    handler_.cancel_all();
    const py::gil_scoped_release released;  // its threads may be in the handler
    penstock_server_destroy(handle_);
    handle_ = nullptr;
  }

 private:
  Options options_;
  Handler handler_;  // outlives the server's threads
  penstock_server* handle_ = nullptr;
};

// Leaving the block without an exception waits for the job's end: a server that went while its
// last worker leaves would look like a death.
template <class Role>
void leave_block(Role& role, const py::object& exception_type) {
  try {
    if (exception_type.is_none()) role.wait(std::nullopt);
  } catch (...) {
    role.close();
    throw;
  }
  role.close();
}

template <class Role>
void bind_common(py::class_<Role>& role) {
  role.def("wait", &Role::wait, py::arg("timeout_s") = py::none(),
           "Returns once every worker has left; timeout_s: seconds, inf for ever, None for the "
           "option\n"
           "timeout_ms. Raises Timeout while the job runs, or what ended it. Releases the GIL.")
      .def("close", &Role::close, "Ends its threads and connections; does nothing the second time.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](Role& self, const py::object& type, const py::object&,
                          const py::object&) { leave_block(self, type); });
}

}  // namespace

void bind_roles(py::module_& module) {
  py::class_<Scheduler> scheduler(
      module, "Scheduler",
      "The process that lets the others find each other; it sees no gradient.\n\n"
      "Options by keyword, those of penstock.h: listen=\"host:port\", workers=1, servers=1, "
      "lanes=1,\n"
      "slice_bytes=262144, secret_file=…, insecure=False, detect_ms=3000, timeout_ms=30000, …\n"
      "In a with block: on the way out it waits until every worker has left.");
  scheduler.def(py::init<const py::kwargs&>())
      .def_property_readonly("address", &Scheduler::address, "\"host:port\" it listens on.");
  bind_common(scheduler);

  py::class_<Server> server(
      module, "Server",
      "Holds parameters and optimizer state and runs the optimizer.\n\n"
      "Options by keyword, those of penstock.h: scheduler=\"host:port\", listen, transport, rank, "
      "pin, …\n"
      "handler(request): answers open requests; it runs on a thread of the server's and must not\n"
      "wait there. Without one, requests are refused.\n"
      "In a with block: on the way out it waits until every worker has left.");
  server.def(py::init<py::object, const py::kwargs&>(), py::kw_only(),
             py::arg("handler") = py::none());
  bind_common(server);
}

}  // namespace penstock::python
