// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/worker.h"

#include "bindings/c/options.h"
#include "bindings/c/tensor.h"

using penstock::Code;
using penstock::Status;
using penstock::c::guarded;
using penstock::c::null_argument;
using penstock::c::on_worker;

extern "C" {

int penstock_worker_start(const penstock_options* options, penstock_worker** worker) {
  return guarded([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    if (worker == nullptr) return null_argument("worker");
    auto handle = std::make_unique<penstock_worker>();
    penstock::NodeOptions node = options->node;
    node.messages = &handle->requests;
    PENSTOCK_ASSIGN_OR_RETURN(handle->node, penstock::WorkerNode::start(node));
    handle->requests.attach(handle->worker());
    *worker = handle.release();
    return {};
  });
}

void penstock_worker_destroy(penstock_worker* worker) {
  if (worker == nullptr) return;
  worker->node->stop();
  worker->memory.clear();  // after who may still write to it, before the device that it is of
  delete worker;
}

int penstock_worker_stop(penstock_worker* worker) {
  return guarded([&]() -> Status {
    if (worker == nullptr) return null_argument("worker");
    worker->node->stop();
    worker->stopped = true;
    return {};
  });
}

int penstock_worker_rank(const penstock_worker* worker, uint32_t* rank) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (rank == nullptr) return null_argument("rank");
    *rank = self.rank();
    return {};
  });
}

int penstock_worker_count(const penstock_worker* worker, uint32_t* workers) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (workers == nullptr) return null_argument("workers");
    *workers = self.workers();
    return {};
  });
}

int penstock_server_count(const penstock_worker* worker, uint32_t* servers) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (servers == nullptr) return null_argument("servers");
    *servers = self.servers();
    return {};
  });
}

int penstock_worker_allocate(penstock_worker* worker, size_t bytes, void** memory) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (memory == nullptr) return null_argument("memory");
    if (bytes == 0) return {Code::kInvalidArgument, "0 bytes of memory were asked for"};
    PENSTOCK_ASSIGN_OR_RETURN(auto region, self.allocate(bytes));
    void* const address = region->bytes().data();
    const std::lock_guard lock(worker->mutex);
    worker->memory.emplace(address, std::move(region));
    *memory = address;
    return {};
  });
}

int penstock_worker_free(penstock_worker* worker, void* memory) {
  return guarded([&]() -> Status {
    if (worker == nullptr) return null_argument("worker");
    const std::lock_guard lock(worker->mutex);
    if (worker->memory.erase(memory) == 0)
      return {Code::kNotFound, "this memory is not from penstock_worker_allocate()"};
    return {};
  });
}

int penstock_worker_declare(penstock_worker* worker, penstock_tensor* const* tensors,
                            size_t count) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (tensors == nullptr) return null_argument("tensors");
    std::vector<penstock::Tensor> batch;
    for (size_t i = 0; i < count; ++i) {
      if (tensors[i] == nullptr) return null_argument("a tensor");
      batch.push_back(tensors[i]->tensor);
    }
    return self.declare(std::move(batch));
  });
}

int penstock_worker_remove(penstock_worker* worker, const uint64_t* keys, size_t count) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (keys == nullptr) return null_argument("keys");
    return self.remove(std::vector<penstock::Key>(keys, keys + count));
  });
}

int penstock_worker_barrier(penstock_worker* worker) {
  return on_worker(worker, [](penstock::Worker& self) { return self.barrier(); });
}

int penstock_worker_push_pull(penstock_worker* worker, uint64_t key, uint64_t round) {
  return on_worker(worker, [&](penstock::Worker& self) { return self.push_pull(key, round); });
}

int penstock_worker_pull(penstock_worker* worker, uint64_t key, uint64_t round) {
  return on_worker(worker, [&](penstock::Worker& self) { return self.push_nothing(key, round); });
}

int penstock_worker_wait(penstock_worker* worker, uint64_t key, uint64_t round,
                         int64_t timeout_ms) {
  return on_worker(worker, [&](penstock::Worker& self) {
    return self.wait(key, round, penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns()));
  });
}

int penstock_worker_test(penstock_worker* worker, uint64_t key, uint64_t round, int* finished) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (finished == nullptr) return null_argument("finished");
    PENSTOCK_ASSIGN_OR_RETURN(const bool over, self.finished(key, round));
    *finished = over ? 1 : 0;
    return {};
  });
}

int penstock_worker_leave(penstock_worker* worker) {
  return on_worker(worker, [](penstock::Worker& self) { return self.leave(); });
}

int penstock_worker_counters(penstock_worker* worker, penstock_counter* counters, size_t capacity,
                             size_t* count) {
  return on_worker(worker, [&](penstock::Worker&) -> Status {
    if (count == nullptr) return null_argument("count");
    if (counters == nullptr && capacity != 0) return null_argument("counters");
    const std::vector<penstock::Counter> all = worker->node->counters();
    *count = all.size();
    const std::lock_guard lock(worker->mutex);
    for (size_t i = 0; i < all.size() && i < capacity; ++i)
      counters[i] = {worker->counter_names.insert(all[i].name).first->c_str(), all[i].value};
    return {};
  });
}
}
