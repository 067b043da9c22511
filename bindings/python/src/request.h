// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <set>
#include <string>

#include "bindings/c/penstock.h"
#include "bindings/python/src/wait.h"

namespace penstock::python {

class Request;

// A server's callable and the requests that it has not ended yet. Everything under the GIL.
struct Handler {
  pybind11::object callable;
  std::set<Request*> open;
  bool closing = false;

  void cancel_all();  // before the server goes
};

// A request that the callable has to answer.
class Request {
 public:
  Request(Handler& handler, penstock_request* request);
  ~Request();  // fails it unless it has ended
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  std::uint32_t worker() const;
  pybind11::bytes head() const;
  pybind11::list arrays() const;
  void answer(const pybind11::bytes& head, const pybind11::sequence& arrays);
  void fail(int status, const std::string& why);
  void cancel(const char* why);  // does nothing to one that has ended

 private:
  void check_open() const;
  void release_views();
  penstock_request* end();

  const Owner owner_;
  Handler* handler_;
  penstock_request* request_;  // nullptr: ended
  pybind11::list arrays_;      // the exporters …
  pybind11::list views_;       // … and a memoryview of each
};

// The penstock_handler of every server with a callable; `context` is its Handler. Runs on a lane's
// thread, takes the GIL, and fails the request with the words of an exception that comes out.
void call_handler(penstock_request* request, void* context);

}  // namespace penstock::python
