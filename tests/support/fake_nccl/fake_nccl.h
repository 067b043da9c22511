// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NCCL inside the process, behind the table of bindings/devices/nccl_library.h, on the GPUs of a
// FakeCuda. Strict about what NCCL wants of its callers; what they do wrong is in faults().
//
//   FakeCuda cuda({{}, {.pci = "0000:18:00.0"}});
//   FakeNccl nccl(cuda);
//   const std::vector<NcclDevice> gpus{{.ordinal = 0}, {.ordinal = 1}};
//   auto group = NcclGroup::create(nccl.host(), gpus);
//   …
//   EXPECT_EQ(nccl.faults(), FakeNccl::kNone);
//
// As the real one with non-blocking communicators: a group only notes operations; they are on the
// streams after some ncclCommGetAsyncError; an operation runs once every rank has issued it; events
// tell of what was on the stream before them. Sums are in an order of its own (the last rank
// first). Thread: any. One at a time in a process.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bindings/devices/nccl_library.h"
#include "tests/support/fake_cuda/fake_cuda.h"

namespace penstock::test {

class FakeNccl {
 public:
  explicit FakeNccl(FakeCuda& cuda);
  ~FakeNccl();
  FakeNccl(const FakeNccl&) = delete;
  FakeNccl& operator=(const FakeNccl&) = delete;

  NcclHost host() const { return {&library_, &driver_}; }

  // --- What it does from now on.
  void set_version(int code);
  void fail(const std::string& call, int result);  // the call of this name answers it; 0: works
  void break_ranks(int result);                    // every communicator's asynchronous error
  void hold(bool held);                            // operations on the streams do not run
  void set_polls(int polls) { polls_ = polls; }    // how long a group is "in progress"

  // --- What happened.
  using Faults = std::vector<std::string>;
  inline static const Faults kNone{};
  Faults faults() const;  // of the callers, and what they left behind by now
  int communicators() const;
  int operations() const;  // that ran, on all ranks

 private:
  friend struct FakeNcclCalls;
  friend struct FakeEventCalls;
  struct Operation {
    std::string what;  // equal on all ranks
    const void* send = nullptr;
    void* receive = nullptr;
    std::size_t count = 0;
    int type = 0, root = 0;
    bool reduce = false;
    void* stream = nullptr;
  };
  struct Clique;
  struct Communicator {
    Clique* clique = nullptr;
    int rank = 0, gpu = 0;
    std::uint64_t batch = 0;  // of ncclGroup calls that it was made in
    int polls = 0;            // until what was noted is issued
    std::vector<Operation> noted, issued;
    std::size_t ran = 0;
    bool finalized = false, freed = false;
  };
  struct Clique {
    int size = 0;
    std::map<int, Communicator*> ranks;
  };
  struct Event {
    int gpu = 0;
    Communicator* communicator = nullptr;
    std::size_t after = 0;  // operations
    bool asked = false;     // once; the first answer is always "not ready"
  };

  void fault(std::string what) { faults_.push_back(std::move(what)); }
  Communicator* find(NcclComm comm, const char* call);  // nullptr, and a fault
  int end_group();
  int note(NcclComm comm, Operation operation, const char* call);
  bool connected(const Communicator& communicator) const;
  void run(Clique& clique);
  void reduce(const std::vector<Operation*>& ranks);
  void broadcast(const std::vector<Operation*>& ranks);
  std::byte* reach(const Communicator& communicator, const void* address, std::size_t bytes);

  FakeCuda& cuda_;
  NcclLibrary library_;
  CudaDriver driver_;
  mutable std::mutex mutex_;
  int version_ = 22809, polls_ = 2, broken_ = 0, operations_ = 0;
  bool held_ = false;
  std::uint64_t next_id_ = 1, next_batch_ = 1;
  std::map<std::string, int> failures_;
  std::map<std::uint64_t, Clique> cliques_;  // by unique id
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::map<std::pair<int, void*>, Communicator*> streams_;  // by GPU and stream: who used it last
  std::map<void*, std::unique_ptr<Event>> events_;
  Faults faults_;
};

}  // namespace penstock::test
