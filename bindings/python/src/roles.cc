// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <mutex>
#include <shared_mutex>
#include <utility>

#include "bindings/python/src/bindings.h"
#include "bindings/python/src/options.h"
#include "bindings/python/src/request.h"
#include "bindings/python/src/wait.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

// What a scheduler and a server have in common. A wait in one thread holds back close() in another,
// which comes in between two pieces of it.
template <class Handle, int (*kWait)(Handle*, std::int64_t), void (*kDestroy)(Handle*)>
class Role {
 public:
  explicit Role(const py::kwargs& given) : options_(given) {}
  Role(const Role&) = delete;
  Role& operator=(const Role&) = delete;

  void wait(std::optional<double> timeout_s) {
    if (closed()) raise(PENSTOCK_CANCELLED, "this role is closed");
    owner_.check("this role");
    wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()), [&](std::int64_t ms) {
      const std::shared_lock lock(closing_);
      return kWait(handle_, ms);
    });
  }
  bool closed() const { return handle_ == nullptr; }
  bool here() const { return owner_.here(); }
  void close() {
    if (!here()) return;
    const py::gil_scoped_release released;  // its threads may be in a handler
    const std::unique_lock alone(closing_);
    kDestroy(std::exchange(handle_, nullptr));
  }

 protected:
  ~Role() { close(); }

  Options options_;
  Handle* handle_ = nullptr;

 private:
  const Owner owner_;
  std::shared_mutex closing_;  // held shared in calls, without the GIL
};

class Scheduler
    : public Role<penstock_scheduler, penstock_scheduler_wait, penstock_scheduler_destroy> {
 public:
  explicit Scheduler(const py::kwargs& given) : Role(given) {
    without_gil([&] { return penstock_scheduler_start(options_.get(), &handle_); });
    address_ = penstock_scheduler_address(handle_);
  }
  const std::string& address() const { return address_; }

 private:
  std::string address_;
};

class Server : public Role<penstock_server, penstock_server_wait, penstock_server_destroy> {
 public:
  Server(py::object handler, const py::kwargs& given) : Role(given) {
    handler_.callable = std::move(handler);
    if (!handler_.callable.is_none())
      check(penstock_options_set_handler(options_.get(), &call_handler, &handler_));
    without_gil([&] { return penstock_server_start(options_.get(), &handle_); });
  }
  ~Server() { close(); }  // the handler outlives the server's threads
  void close() {
    if (!here()) return;
    handler_.cancel_all();
    Role::close();
  }

 private:
  Handler handler_;
};

// Leaving the block without an exception waits for the job's end: a server that went while its
// last worker leaves would look like a death.
template <class Kind>
void leave_block(Kind& role, const py::object& exception_type) {
  try {
    if (exception_type.is_none() && !role.closed() && role.here()) role.wait(std::nullopt);
  } catch (...) {
    role.close();
    throw;
  }
  role.close();
}

template <class Kind>
void bind_common(py::class_<Kind>& role) {
  role.def("wait", &Kind::wait, py::arg("timeout_s") = py::none(),
           "Returns once every worker has left; timeout_s: seconds, inf for ever, None for the "
           "option\n"
           "timeout_ms. Raises Timeout while the job runs, or what ended it. Releases the GIL.")
      .def("close", &Kind::close, "Ends its threads and connections; does nothing the second time.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](Kind& self, const py::object& type, const py::object&,
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
