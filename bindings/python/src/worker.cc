// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/worker.h"

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

Declared declared_from(const py::tuple& given) {
  const auto key = given[0].cast<std::uint64_t>();
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
  const py::gil_scoped_release released;  // ends threads; the loans go afterwards, with the GIL
  penstock_worker_destroy(worker);
}

Memory::Memory(std::shared_ptr<WorkerHandle> of, std::size_t size)
    : handle(std::move(of)), bytes(size) {
  without_gil([&] { return penstock_worker_allocate(handle->worker, bytes, &data); });
}

Memory::~Memory() {
  const py::gil_scoped_release released;
  (void)penstock_worker_free(handle->worker, data);
}

Worker::Worker(const py::kwargs& given)
    : options_(given), handle_(std::make_shared<WorkerHandle>()) {
  without_gil([&] { return penstock_worker_start(options_.get(), &handle_->worker); });
}

penstock_worker* Worker::get() const {
  if (!handle_) raise(PENSTOCK_INVALID_ARGUMENT, "this worker is closed");
  return handle_->worker;
}

std::uint32_t Worker::rank() const {
  std::uint32_t number = 0;
  check(penstock_worker_rank(get(), &number));
  return number;
}

std::uint32_t Worker::workers() const {
  std::uint32_t number = 0;
  check(penstock_worker_count(get(), &number));
  return number;
}

std::uint32_t Worker::servers() const {
  std::uint32_t number = 0;
  check(penstock_server_count(get(), &number));
  return number;
}

void Worker::declare(const py::iterable& tensors) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  std::vector<Declared> declared;
  for (const py::handle tensor : tensors)
    declared.push_back(declared_from(py::tuple(py::reinterpret_borrow<py::object>(tensor))));
  std::vector<penstock_tensor*> batch;
  for (const Declared& one : declared) batch.push_back(one.tensor.get());
  without_gil([&] { return penstock_worker_declare(worker, batch.data(), batch.size()); });
  for (Declared& one : declared) handle->tensors[one.key] = std::move(one.loans);
}

void Worker::remove(const std::vector<std::uint64_t>& keys) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  without_gil([&] { return penstock_worker_remove(worker, keys.data(), keys.size()); });
  for (const std::uint64_t key : keys) handle->tensors.erase(key);
}

void Worker::barrier() {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  without_gil([&] { return penstock_worker_barrier(worker); });
}

std::unique_ptr<Memory> Worker::allocate(std::size_t bytes) {
  (void)get();
  return std::make_unique<Memory>(handle_, bytes);
}

void Worker::push_pull(std::uint64_t key, std::uint64_t round) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  without_gil([&] { return penstock_worker_push_pull(worker, key, round); });
}

void Worker::pull(std::uint64_t key, std::uint64_t round) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  without_gil([&] { return penstock_worker_pull(worker, key, round); });
}

void Worker::wait(std::uint64_t key, std::uint64_t round, std::optional<double> timeout_s) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()),
                 [&](std::int64_t ms) { return penstock_worker_wait(worker, key, round, ms); });
}

bool Worker::test(std::uint64_t key, std::uint64_t round) {
  int finished = 0;
  check(penstock_worker_test(get(), key, round, &finished));
  return finished != 0;
}

std::uint64_t Worker::request(std::uint32_t server, std::uint32_t channel, const py::bytes& head,
                              const py::sequence& arrays, const py::sequence& places) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
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
  without_gil([&] {
    return penstock_worker_request(worker, server, channel, {bytes.data(), bytes.size()},
                                   lent.data(), lent.size(), landing.data(), landing.size(),
                                   &number);
  });
  handle->requests[number] = std::move(loans);
  return number;
}

std::unique_ptr<Answer> Worker::answer(std::uint64_t number, std::optional<double> timeout_s) {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  penstock_answer* taken = nullptr;
  // What is lent to a request that failed stays lent until the worker's end: its lanes may still
  // hold it.
  wait_in_pieces(timeout_ms(timeout_s, options_.timeout_ms()), [&](std::int64_t ms) {
    return penstock_worker_answer(worker, number, ms, &taken);
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
  std::size_t count = 0;
  check(penstock_worker_counters(get(), nullptr, 0, &count));
  std::vector<penstock_counter> values(count);
  check(penstock_worker_counters(get(), values.data(), values.size(), &count));
  py::dict all;
  for (const penstock_counter& value : values) all[value.name] = value.value;
  return all;
}

void Worker::leave() {
  penstock_worker* const worker = get();
  const std::shared_ptr<WorkerHandle> handle = handle_;
  without_gil([&] { return penstock_worker_leave(worker); });
}

}  // namespace penstock::python
