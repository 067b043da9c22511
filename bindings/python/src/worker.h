// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "bindings/c/penstock.h"
#include "bindings/python/src/loan.h"
#include "bindings/python/src/options.h"
#include "bindings/python/src/wait.h"

namespace penstock::python {

// A worker and all that is lent to it. Shared with the memory that was allocated from it, which is
// gone when the worker is.
struct WorkerHandle {
  WorkerHandle() = default;
  ~WorkerHandle();
  WorkerHandle(const WorkerHandle&) = delete;
  WorkerHandle& operator=(const WorkerHandle&) = delete;

  // Ends its threads and connections and gives back what was lent; with the GIL.
  void stop();

  const Owner owner;  // elsewhere it is left as it is
  penstock_worker* worker = nullptr;
  std::shared_mutex stopping;  // held shared during calls, without the GIL
  // Under the GIL: by key, its gradients and parameters; by request, what is on its way.
  std::map<std::uint64_t, std::vector<Loan>> tensors;
  std::map<std::uint64_t, std::vector<Loan>> requests;
  std::vector<Loan> abandoned;  // by calls that failed
};

// Memory from penstock_worker_allocate(), a writable buffer of bytes.
struct Memory {
  std::shared_ptr<WorkerHandle> handle;
  void* data = nullptr;
  std::size_t bytes = 0;
  Memory(std::shared_ptr<WorkerHandle> of, std::size_t size);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

class Answer;

// The class Worker of the package. Methods that may block release the GIL.
class Worker {
 public:
  explicit Worker(const pybind11::kwargs& given);

  std::uint32_t rank() const;
  std::uint32_t workers() const;
  std::uint32_t servers() const;

  // tensors: an iterable of (key, gradients, parameters, {property: value}).
  void declare(const pybind11::iterable& tensors);
  void remove(const std::vector<std::uint64_t>& keys);
  void barrier();
  std::unique_ptr<Memory> allocate(std::size_t bytes);

  void push_pull(std::uint64_t key, std::uint64_t round);
  void pull(std::uint64_t key, std::uint64_t round);
  void wait(std::uint64_t key, std::uint64_t round, std::optional<double> timeout_s);
  bool test(std::uint64_t key, std::uint64_t round);

  std::uint64_t request(std::uint32_t server, std::uint32_t channel, const pybind11::bytes& head,
                        const pybind11::sequence& arrays, const pybind11::sequence& places);
  std::unique_ptr<Answer> answer(std::uint64_t number, std::optional<double> timeout_s);

  // (steps, [(dtype, bytearray)]).
  pybind11::tuple read_state(std::uint64_t key, std::optional<double> timeout_s);
  void write_state(std::uint64_t key, std::uint64_t steps, const pybind11::sequence& planes,
                   std::optional<double> timeout_s);
  void publish(const std::string& name, std::uint64_t version, const pybind11::object& tensor,
               std::optional<double> timeout_s);
  std::uint64_t fetch(const std::string& name, const pybind11::object& into, std::uint64_t version,
                      std::optional<double> timeout_s);
  void withdraw(const std::string& name, std::optional<double> timeout_s);

  pybind11::dict counters();
  void leave();
  ~Worker() { close(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void close();
  // Nothing is left to leave.
  bool over() const { return !handle_ || left_ || !handle_->owner.here(); }

 private:
  std::shared_ptr<WorkerHandle> open() const;  // raises when closed or forked
  // Runs body(worker), which returns a penstock_status, without the GIL.
  template <class Body>
  void call(const Body& body) const;

  Options options_;
  std::shared_ptr<WorkerHandle> handle_;
  bool left_ = false;
};

}  // namespace penstock::python
