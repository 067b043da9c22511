// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "bindings/c/error.h"
#include "bindings/c/penstock.h"
#include "bindings/cpp/node.h"
#include "bindings/cpp/requests.h"

// What the opaque handle of the C ABI holds.
struct penstock_worker {
  penstock::Requests requests;  // outlives the node
  std::unique_ptr<penstock::WorkerNode> node;
  bool stopped = false;  // and node has no worker any more
  std::mutex mutex;      // of what follows
  std::map<void*, std::shared_ptr<const penstock::MemoryRegion>> memory;
  std::set<std::string> counter_names;  // lent to the caller

  penstock::Worker& worker() const { return node->worker(); }
};

namespace penstock::c {

// Runs `body(worker)` unless the handle is NULL.
template <class Handle, class Body>
int on_worker(Handle* handle, const Body& body) {
  return guarded([&]() -> Status {
    if (handle == nullptr) return null_argument("worker");
    if (handle->stopped) return {Code::kCancelled, "this worker has been stopped"};
    return body(handle->worker());
  });
}

}  // namespace penstock::c
