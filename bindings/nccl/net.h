// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The plugin behind the tables of exports.cc: the devices and the connections being made. One for
// the process, since NCCL's functions carry nothing that could name another. Opened by the first
// init(); closed when the library is unloaded, because NCCL keeps pointers into the properties.
// Threads: any; what they share is locked, and no connection that is up is among it.

#include <atomic>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "bindings/nccl/handle.h"
#include "bindings/nccl/listen_comm.h"
#include "bindings/nccl/send_comm.h"
#include "transport/base/thread_annotations.h"

namespace penstock::nccl {

class Net {
 public:
  ~Net() { close(); }

  Status init() EXCLUDES(mutex_);
  // Closes the devices. With connections open it leaves them as they are: the process ends, and
  // threads of NCCL's may still be on them.
  void close() EXCLUDES(mutex_);
  int device_count() EXCLUDES(mutex_);
  Result<NetDevice*> device(int index) EXCLUDES(mutex_);

  Result<ListenComm*> listen(int device, std::span<std::byte, kHandleBytes> handle);
  // nullptr: not yet; call again with the same bytes.
  Result<SendComm*> connect(int device, std::span<std::byte, kHandleBytes> handle);
  Result<ReceiveComm*> accept(ListenComm& listener);
  void close(ListenComm* listener);
  void close(Comm* comm);

  Result<MemoryHandle*> register_memory(Comm& comm, std::span<std::byte> bytes, bool cuda);
  // Where requests of this connection use it, the connection is closed first. kInvalidArgument
  // where another connection's do: nothing happens.
  Status deregister(Comm& comm, MemoryHandle* memory);

 private:
  struct Connecting {
    std::unique_ptr<SendComm> comm;
    TimeNs seen_ns = 0;  // the last call
  };
  // Takes the connection that a cookie names out of the list, or begins a new one.
  Result<Connecting> take(NetDevice& device, const ListenHandle& handle, std::uint64_t& cookie);

  SystemClock clock_;
  Mutex mutex_;
  std::vector<std::unique_ptr<NetDevice>> devices_ GUARDED_BY(mutex_);  // never changes once filled
  std::map<std::uint64_t, Connecting> connecting_ GUARDED_BY(mutex_);   // by cookie
  std::atomic<int> open_{0};  // comms that NCCL holds; relaxed, read when all threads are gone
};

}  // namespace penstock::nccl
