// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// This process's ranks of one NCCL communicator, one for each of its GPUs. Calls never block: each
// starts something, and poll() says when NCCL has done it. The first error aborts all ranks.
//
// handle() is the ncclComm_t that a program hands to NCCL functions of its own; the library it
// calls must then be the one that is loaded here.
//
// Thread: one at a time, as NCCL wants it.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "bindings/devices/nccl_library.h"
#include "transport/hardware/cuda_context.h"

namespace penstock {

// A GPU, and the stream that its operations go on (a CUstream or cudaStream_t of that GPU; nullptr
// is its default stream). What the stream holds before an operation is done before it.
struct NcclDevice {
  int ordinal = 0;
  void* stream = nullptr;
};

class NcclCommunicator {
 public:
  struct Local {
    CudaContext context;
    void* stream = nullptr;
    NcclComm comm = nullptr;
  };

  // Starts to connect ranks first_rank, first_rank + 1, … of `ranks`, one for each device; the
  // others come from wherever the id was sent. kInvalidArgument naming what cannot be.
  static Result<std::unique_ptr<NcclCommunicator>> begin(const NcclHost& host,
                                                         const NcclUniqueId& id,
                                                         std::uint32_t ranks,
                                                         std::uint32_t first_rank,
                                                         std::span<const NcclDevice> devices);
  ~NcclCommunicator();  // aborts what is not closed: operations under way end anywhere
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  // Nothing while NCCL is at work on what was started last: only then are operations on the
  // streams. OK when it has done it. The first error stays.
  std::optional<Status> poll();

  // Starts one operation on every local rank, `operation(index, local)` → ncclResult_t, as a group.
  // Only after poll() said OK.
  template <class Operation>
  Status start(const char* what, Operation&& operation) {
    PENSTOCK_RETURN_IF_ERROR(failure_);
    what_ = what;
    int result = nccl().ncclGroupStart();
    if (result != kNcclSuccess) return fail(result);
    for (std::size_t i = 0; i < locals_.size() && !bad(result); ++i)
      result = operation(i, locals_[i]);
    const int ended = nccl().ncclGroupEnd();  // also after an error, or the thread stays in a group
    return fail(bad(result) ? result : ended);
  }

  // Waits, under poll(), for what all ranks have under way, and frees them. For a clean end, which
  // every rank of the communicator must come to.
  Status begin_close();

  // Ends it now, with this error.
  Status abort(Status reason);

  std::uint32_t ranks() const { return ranks_; }
  const NcclLibrary& nccl() const { return *host_.nccl; }
  const std::vector<Local>& locals() const { return locals_; }
  NcclComm handle(std::size_t device) const { return locals_.at(device).comm; }

 private:
  NcclCommunicator(const NcclHost& host, std::uint32_t ranks) : host_(host), ranks_(ranks) {}
  static bool bad(int result) { return result != kNcclSuccess && result != kNcclInProgress; }
  // OK unless the result is an error: then all ranks are aborted.
  Status fail(int result, NcclComm comm = nullptr);

  const NcclHost host_;
  const std::uint32_t ranks_;
  std::vector<Local> locals_;  // never resized: NCCL writes into it from a thread of its own
  const char* what_ = "";      // the call that was started last
  bool closing_ = false;
  Status failure_;
};

// A new unique id; whoever made it must stay until all ranks are connected.
Result<NcclUniqueId> new_nccl_id(const NcclLibrary& nccl);

}  // namespace penstock
