// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/worker.h"

#include <mutex>

#include "bindings/python/src/answer.h"
#include "bindings/python/src/error.h"
#include "bindings/python/src/wait.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

using TensorHandle = std::unique_ptr<penstock_tensor, decltype(&penstock_tensor_destroy)>;

struct Declared {
  std::uint64_t key;
  TensorHandle tensor;
  std::vector<Loan> loans;
};

std::string text_of(py::handle object) { return py::str(py::repr(object)); }

std::uint64_t key_of(py::handle given) {
  try {
    return given.cast<std::uint64_t>();
  } catch (const py::cast_error&) {
    raise(PENSTOCK_INVALID_ARGUMENT,
          "key " + text_of(given) + " is not a whole number from 0 to 2**64 - 1");
  }
}

// A penstock.Tensor or a sequence like it.
Declared declared_from(py::handle lender) {
  py::tuple given;
  if (py::isinstance<py::iterable>(lender))
    given = py::tuple(py::reinterpret_borrow<py::object>(lender));
  if (given.size() != 4 || !py::isinstance<py::dict>(given[3]))
    raise(
        PENSTOCK_INVALID_ARGUMENT,
        "declare() takes penstock.Tensor or (key, gradients, parameters, {property: value}), not " +
            std::string(py::str(py::type::handle_of(lender).attr("__name__"))));
  const std::uint64_t key = key_of(given[0]);
  const std::string what = "key " + std::to_string(key) + ": ";
  std::vector<Loan> loans;
  loans.push_back(Loan::of_tensor(given[1], what + "gradients", Access::kRead));
  loans.push_back(Loan::of_tensor(given[2], what + "parameters", Access::kWrite));
  penstock_tensor* made = nullptr;
  check(penstock_tensor_create(key, &loans[0].tensor(), &loans[1].tensor(), &made));
  TensorHandle tensor(made, &penstock_tensor_destroy);
  for (const auto& [name, value] : given[3].cast<py::dict>())
    check(penstock_tensor_set(made, name.cast<std::string>().c_str(), option_text(value).c_str()));
  return {key, std::move(tensor), std::move(loans)};
}

}  // namespace

WorkerHandle::~WorkerHandle() {
  if (!owner.here()) return;
  const py::gil_scoped_release released;
  penstock_worker_destroy(worker);
}

void WorkerHandle::stop() {
  if (!owner.here()) return;
  {
    const py::gil_scoped_release released;
    const std::unique_lock alone(stopping);
    (void)penstock_worker_stop(worker);
  }
  tensors.clear();
  requests.clear();
  abandoned.clear();
}

Memory::Memory(std::shared_ptr<WorkerHandle> of, std::size_t size)
    : handle(std::move(of)), bytes(size) {
  without_gil([&] {
    const std::shared_lock lock(handle->stopping);
    return penstock_worker_allocate(handle->worker, bytes, &data);
  });
}

Memory::~Memory() {
  if (!handle->owner.here()) return;
  const py::gil_scoped_release released;
  (void)penstock_worker_free(handle->worker, data);
}

Worker::Worker(const py::kwargs& given)
    : options_(given), handle_(std::make_shared<WorkerHandle>()) {
  without_gil([&] { return penstock_worker_start(options_.get(), &handle_->worker); });
}

std::shared_ptr<WorkerHandle> Worker::open() const {
  if (!handle_) raise(PENSTOCK_CANCELLED, "this worker is closed");
  handle_->owner.check("this worker");
  return handle_;
}

template <class Body>
void Worker::call(const Body& body) const {
  const std::shared_ptr<WorkerHandle> handle = open();
  without_gil([&] {
    const std::shared_lock lock(handle->stopping);
    return body(handle->worker);
  });
}

std::uint32_t Worker::rank() const {
  std::uint32_t number = 0;
  call([&](penstock_worker* worker) { return penstock_worker_rank(worker, &number); });
  return number;
}

std::uint32_t Worker::workers() const {
  std::uint32_t number = 0;
  call([&](penstock_worker* worker) { return penstock_worker_count(worker, &number); });
  return number;
}

std::uint32_t Worker::servers() const {
  std::uint32_t number = 0;
  call([&](penstock_worker* worker) { return penstock_server_count(worker, &number); });
  return number;
}

void Worker::declare(const py::iterable& tensors) {
  const std::shared_ptr<WorkerHandle> handle = open();
  std::vector<Declared> declared;
  for (const py::handle tensor : tensors) declared.push_back(declared_from(tensor));
  std::vector<penstock_tensor*> batch;
  for (const Declared& one : declared) batch.push_back(one.tensor.get());
  try {
    call([&](penstock_worker* worker) {
      return penstock_worker_declare(worker, batch.data(), batch.size());
    });
  } catch (...) {  // initial values may still be on their way
    for (Declared& one : declared)
      for (Loan& loan : one.loans) handle->abandoned.push_back(std::move(loan));
    throw;
  }
  for (Declared& one : declared) handle->tensors[one.key] = std::move(one.loans);
}

void Worker::remove(const std::vector<std::uint64_t>& keys) {
  const std::shared_ptr<WorkerHandle> handle = open();
  call([&](penstock_worker* worker) {
    return penstock_worker_remove(worker, keys.data(), keys.size());
  });
  for (const std::uint64_t key : keys) handle->tensors.erase(key);
}

void Worker::barrier() {
  call([](penstock_worker* worker) { return penstock_worker_barrier(worker); });
}

std::unique_ptr<Memory> Worker::allocate(std::size_t bytes) {
  return std::make_unique<Memory>(open(), bytes);
}

void Worker::push_pull(std::uint64_t key, std::uint64_t round) {
  call([&](penstock_worker* worker) { return penstock_worker_push_pull(worker, key, round); });
}

void Worker::pull(std::uint64_t key, std::uint64_t round) {
  call([&](penstock_worker* worker) { return penstock_worker_pull(worker, key, round); });
}

void Worker::wait(std::uint64_t key, std::uint64_t round, std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()), [&](std::int64_t ms) {
    const std::shared_lock lock(handle->stopping);
    return penstock_worker_wait(handle->worker, key, round, ms);
  });
}

bool Worker::test(std::uint64_t key, std::uint64_t round) {
  int finished = 0;
  call(
      [&](penstock_worker* worker) { return penstock_worker_test(worker, key, round, &finished); });
  return finished != 0;
}

std::uint64_t Worker::request(std::uint32_t server, std::uint32_t channel, const py::bytes& head,
                              const py::sequence& arrays, const py::sequence& places) {
  const std::shared_ptr<WorkerHandle> handle = open();
  std::vector<Loan> loans;
  std::vector<penstock_array> lent;
  std::vector<penstock_place> landing;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    loans.push_back(Loan::of_bytes(arrays[i], "array " + std::to_string(i), Access::kRead));
    lent.push_back({loans.back().data(), loans.back().bytes()});
  }
  for (std::size_t i = 0; i < places.size(); ++i) {
    loans.push_back(Loan::of_bytes(places[i], "place " + std::to_string(i), Access::kWrite));
    landing.push_back({loans.back().data(), loans.back().bytes()});
  }
  const auto bytes = static_cast<std::string_view>(head);
  std::uint64_t number = 0;
  call([&](penstock_worker* worker) {
    return penstock_worker_request(worker, server, channel, {bytes.data(), bytes.size()},
                                   lent.data(), lent.size(), landing.data(), landing.size(),
                                   &number);
  });
  handle->requests[number] = std::move(loans);
  return number;
}

std::unique_ptr<Answer> Worker::answer(std::uint64_t number, std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  penstock_answer* taken = nullptr;
  // What is lent to a request that failed stays lent until the worker's end: its lanes may still
  // hold it.
  wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()), [&](std::int64_t ms) {
    const std::shared_lock lock(handle->stopping);
    return penstock_worker_answer(handle->worker, number, ms, &taken);
  });
  auto answer = std::make_unique<Answer>(handle, taken);
  const auto lent = handle->requests.find(number);
  if (lent != handle->requests.end()) {
    answer->keep(std::move(lent->second));
    handle->requests.erase(lent);
  }
  return answer;
}

py::dict Worker::counters() {
  const std::shared_ptr<WorkerHandle> handle = open();  // the names are its
  std::size_t count = 0;
  call([&](penstock_worker* worker) {
    return penstock_worker_counters(worker, nullptr, 0, &count);
  });
  std::vector<penstock_counter> values(count);
  call([&](penstock_worker* worker) {
    return penstock_worker_counters(worker, values.data(), values.size(), &count);
  });
  py::dict all;
  for (const penstock_counter& value : values) all[value.name] = value.value;
  return all;
}

void Worker::leave() {
  call([](penstock_worker* worker) { return penstock_worker_leave(worker); });
  left_ = true;
}

void Worker::close() {
  const std::shared_ptr<WorkerHandle> handle = std::move(handle_);
  handle_ = nullptr;
  if (handle) handle->stop();
}

}  // namespace penstock::python
