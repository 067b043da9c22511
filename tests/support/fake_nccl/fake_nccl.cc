// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_nccl/fake_nccl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/table.h"
#include "transport/base/check.h"

namespace penstock::test {
namespace {

FakeNccl* now = nullptr;
constexpr int kNcclSystemError = 2;

// Of this thread: how deep in ncclGroupStart, and who noted something since.
thread_local int depth = 0;
thread_local std::uint64_t batch = 0;
thread_local std::vector<void*> noted;

DType dtype_of(int type) {
  if (type == kNcclFloat16) return DType::kFloat16;
  return type == kNcclBfloat16 ? DType::kBfloat16 : DType::kFloat32;
}

}  // namespace

struct FakeNcclCalls {
  template <class Call>
  static int in(const char* name, Call&& call) {
    const std::lock_guard lock(now->mutex_);
    const auto failure = now->failures_.find(name);
    return failure != now->failures_.end() && failure->second != 0 ? failure->second : call(*now);
  }
  static int create(FakeNccl& nccl, NcclComm* comm, int ranks, const NcclUniqueId& id, int rank,
                    const NcclConfig& config);
  static int state(FakeNccl& nccl, FakeNccl::Communicator& communicator);

  static void fill_set_up(NcclLibrary& library);
  static void fill_communicators(NcclLibrary& library);
  static void fill_operations(NcclLibrary& library);
};

int FakeNcclCalls::create(FakeNccl& nccl, NcclComm* comm, int ranks, const NcclUniqueId& id,
                          int rank, const NcclConfig& config) {
  std::uint64_t number = 0;
  std::memcpy(&number, id.bytes, sizeof number);
  if (number == 0 || number >= nccl.next_id_) return kNcclInvalidArgument;
  if (config.magic != 0xcafebeef || config.version < 21400 || config.size < 20)
    return kNcclInvalidArgument;
  if (config.blocking != 0) nccl.fault("a communicator whose calls block");
  if (FakeCuda::current_gpu() < 0) {
    nccl.fault("ncclCommInitRankConfig without a current context");
    return kNcclInvalidUsage;
  }
  FakeNccl::Clique& clique = nccl.cliques_[number];
  const bool taken = std::any_of(clique.ranks.begin(), clique.ranks.end(), [](const auto& each) {
    return each.second->gpu == FakeCuda::current_gpu();
  });
  if (taken || clique.ranks.contains(rank) || rank < 0 || rank >= ranks ||
      (clique.size != 0 && clique.size != ranks)) {
    nccl.fault(fmt::format("rank {} of {} on GPU {} does not fit the others", rank, ranks,
                           FakeCuda::current_gpu()));
    return kNcclInvalidUsage;
  }
  auto made = std::make_unique<FakeNccl::Communicator>();
  made->clique = &clique;
  made->rank = rank;
  made->gpu = FakeCuda::current_gpu();
  made->batch = depth > 0 ? batch : nccl.next_batch_++;
  made->polls = nccl.polls_;
  clique.size = ranks;
  clique.ranks[rank] = made.get();
  *comm = made.get();
  nccl.communicators_.push_back(std::move(made));
  return kNcclInProgress;
}

int FakeNcclCalls::state(FakeNccl& nccl, FakeNccl::Communicator& communicator) {
  if (nccl.broken_ != 0) return nccl.broken_;
  if (!nccl.connected(communicator)) return kNcclInProgress;
  if (communicator.polls > 0 && --communicator.polls > 0) return kNcclInProgress;
  for (FakeNccl::Operation& each : communicator.noted) {
    nccl.streams_[{communicator.gpu, each.stream}] = &communicator;
    communicator.issued.push_back(std::move(each));
  }
  communicator.noted.clear();
  return kNcclSuccess;
}

void FakeNcclCalls::fill_set_up(NcclLibrary& library) {
  library.ncclGetVersion = [](int* version) {
    return in("ncclGetVersion", [&](FakeNccl& nccl) { return *version = nccl.version_, 0; });
  };
  library.ncclGetUniqueId = [](NcclUniqueId* id) {
    return in("ncclGetUniqueId", [&](FakeNccl& nccl) {
      *id = {};
      const std::uint64_t number = nccl.next_id_++;
      return std::memcpy(id->bytes, &number, sizeof number), 0;
    });
  };
  library.ncclGetErrorString = [](int result) {
    return result == kNcclSystemError ? "unhandled system error" : "another error";
  };
  library.ncclGetLastError = [](NcclComm) { return "so says the fake"; };
}

void FakeNcclCalls::fill_communicators(NcclLibrary& library) {
  library.ncclCommInitRankConfig = [](NcclComm* comm, int ranks, NcclUniqueId id, int rank,
                                      NcclConfig* config) {
    return in("ncclCommInitRankConfig",
              [&](FakeNccl& nccl) { return create(nccl, comm, ranks, id, rank, *config); });
  };
  library.ncclCommGetAsyncError = [](NcclComm comm, int* result) {
    return in("ncclCommGetAsyncError", [&](FakeNccl& nccl) {
      FakeNccl::Communicator* const found = nccl.find(comm, "ncclCommGetAsyncError");
      return found == nullptr ? kNcclInvalidArgument : (*result = state(nccl, *found), 0);
    });
  };
  library.ncclCommFinalize = [](NcclComm comm) {
    return in("ncclCommFinalize", [&](FakeNccl& nccl) {
      FakeNccl::Communicator* const found = nccl.find(comm, "ncclCommFinalize");
      if (found == nullptr) return kNcclInvalidArgument;
      if (found->polls > 0) nccl.fault("ncclCommFinalize of a communicator in progress");
      found->finalized = true;
      found->polls = nccl.polls_;
      return kNcclInProgress;
    });
  };
  library.ncclCommDestroy = [](NcclComm comm) {
    return in("ncclCommDestroy", [&](FakeNccl& nccl) {
      FakeNccl::Communicator* const found = nccl.find(comm, "ncclCommDestroy");
      if (found == nullptr) return kNcclInvalidArgument;
      if (!found->finalized || found->polls > 0)
        nccl.fault("ncclCommDestroy before ncclCommFinalize was done");
      return found->freed = true, 0;
    });
  };
  library.ncclCommAbort = [](NcclComm comm) {
    return in("ncclCommAbort", [&](FakeNccl& nccl) {
      FakeNccl::Communicator* const found = nccl.find(comm, "ncclCommAbort");
      return found == nullptr ? kNcclInvalidArgument : (found->freed = true, 0);
    });
  };
}

void FakeNcclCalls::fill_operations(NcclLibrary& library) {
  library.ncclGroupStart = [] {
    return in("ncclGroupStart", [](FakeNccl& nccl) {
      if (depth++ == 0) batch = nccl.next_batch_++;
      return 0;
    });
  };
  library.ncclGroupEnd = [] {
    return in("ncclGroupEnd", [](FakeNccl& nccl) { return nccl.end_group(); });
  };
  library.ncclReduce = [](const void* send, void* receive, std::size_t count, int type,
                          int operation, int root, NcclComm comm, void* stream) {
    return in("ncclReduce", [&](FakeNccl& nccl) {
      if (operation != kNcclSum) nccl.fault("a reduction that is no sum");
      FakeNccl::Operation op{"", send, receive, count, type, root, true, stream};
      return nccl.note(comm, std::move(op), "ncclReduce");
    });
  };
  library.ncclBroadcast = [](const void* send, void* receive, std::size_t count, int type, int root,
                             NcclComm comm, void* stream) {
    return in("ncclBroadcast", [&](FakeNccl& nccl) {
      FakeNccl::Operation op{"", send, receive, count, type, root, false, stream};
      return nccl.note(comm, std::move(op), "ncclBroadcast");
    });
  };
}

struct FakeEventCalls {
  static void fill(CudaDriver& driver) {
    driver.cuEventCreate = [](void** event, unsigned flags) {
      return FakeNcclCalls::in("cuEventCreate", [&](FakeNccl& nccl) {
        if (flags != 2) nccl.fault("an event that takes times, which slows its stream");
        auto made = std::make_unique<FakeNccl::Event>();
        made->gpu = FakeCuda::current_gpu();
        *event = made.get();
        nccl.events_[*event] = std::move(made);
        return 0;
      });
    };
    driver.cuEventDestroy_v2 = [](void* event) {
      return FakeNcclCalls::in("cuEventDestroy", [&](FakeNccl& nccl) {
        if (nccl.events_.erase(event) == 0) nccl.fault("destroyed an event that is none");
        return 0;
      });
    };
    driver.cuEventRecord = [](void* event, void* stream) {
      return FakeNcclCalls::in("cuEventRecord", [&](FakeNccl& nccl) {
        FakeNccl::Event& found = *nccl.events_.at(event);
        if (found.gpu != FakeCuda::current_gpu()) nccl.fault("an event on a stream of another GPU");
        FakeNccl::Communicator* const user = nccl.streams_[{found.gpu, stream}];
        if (user == nullptr || !user->noted.empty())
          nccl.fault("an event before NCCL has put its operations on the stream");
        found.communicator = user;
        found.after = user == nullptr ? 0 : user->issued.size();
        found.asked = false;
        return 0;
      });
    };
    driver.cuEventQuery = [](void* event) {
      return FakeNcclCalls::in("cuEventQuery", [&](FakeNccl& nccl) {
        FakeNccl::Event& found = *nccl.events_.at(event);
        if (found.communicator == nullptr) return 0;
        nccl.run(*found.communicator->clique);
        const bool first = !std::exchange(found.asked, true);
        return first || found.communicator->ran < found.after ? 600 : 0;
      });
    };
  }
};

FakeNccl::FakeNccl(FakeCuda& cuda) : cuda_(cuda), driver_(cuda.driver()) {
  CHECK(now == nullptr, "one fake NCCL at a time");
  now = this;
  FakeNcclCalls::fill_set_up(library_);
  FakeNcclCalls::fill_communicators(library_);
  FakeNcclCalls::fill_operations(library_);
  FakeEventCalls::fill(driver_);
}

FakeNccl::~FakeNccl() { now = nullptr; }

FakeNccl::Communicator* FakeNccl::find(NcclComm comm, const char* call) {
  for (const auto& each : communicators_)
    if (each.get() == comm) {
      if (!each->freed) return each.get();
      fault(fmt::format("{} of a communicator that was freed", call));
      return nullptr;
    }
  fault(fmt::format("{} of no communicator", call));
  return nullptr;
}

bool FakeNccl::connected(const Communicator& communicator) const {
  return static_cast<int>(communicator.clique->ranks.size()) == communicator.clique->size;
}

int FakeNccl::note(NcclComm comm, Operation operation, const char* call) {
  Communicator* const found = find(comm, call);
  if (found == nullptr) return kNcclInvalidArgument;
  if (depth == 0) fault(fmt::format("{} outside of a group", call));
  if (found->polls > 0 || !connected(*found) || found->finalized) {
    fault(fmt::format("{} on a communicator that is not ready", call));
    return kNcclInvalidUsage;
  }
  operation.what = fmt::format("{} of {} type {} root {}", call, operation.count, operation.type,
                               operation.root);
  found->noted.push_back(std::move(operation));
  noted.push_back(found);
  return depth == 0 ? end_group() : 0;
}

int FakeNccl::end_group() {
  if (depth > 0 && --depth > 0) return 0;
  for (void* const each : noted) {
    auto* const user = static_cast<Communicator*>(each);
    user->polls = polls_;
    for (const auto& other : communicators_)
      if (other->batch == user->batch && !other->freed &&
          std::find(noted.begin(), noted.end(), other.get()) == noted.end())
        fault(fmt::format("a group without the rank on GPU {} of the same thread", other->gpu));
  }
  const bool any = !noted.empty();
  noted.clear();
  return any ? kNcclInProgress : kNcclSuccess;
}

void FakeNccl::run(Clique& clique) {
  while (!held_ && static_cast<int>(clique.ranks.size()) == clique.size) {
    std::vector<Operation*> next;
    for (const auto& [rank, communicator] : clique.ranks) {
      if (communicator->freed || communicator->ran == communicator->issued.size()) return;
      next.push_back(&communicator->issued[communicator->ran]);
    }
    for (const Operation* each : next)
      if (each->what != next[0]->what)
        fault(fmt::format("ranks disagree: {} against {}", each->what, next[0]->what));
    // From here on by contents, reached as each rank's GPU reaches it.
    for (const auto& [rank, communicator] : clique.ranks) {
      Operation& each = communicator->issued[communicator->ran++];
      const std::size_t bytes = each.count * dtype_bytes(dtype_of(each.type));
      const bool sends = each.reduce || rank == each.root;
      const bool receives = !each.reduce || rank == each.root;
      each.send = sends ? reach(*communicator, each.send, bytes) : nullptr;
      each.receive = receives ? reach(*communicator, each.receive, bytes) : nullptr;
    }
    next[0]->reduce ? reduce(next) : broadcast(next);
    operations_ += static_cast<int>(next.size());
  }
}

std::byte* FakeNccl::reach(const Communicator& communicator, const void* address,
                           std::size_t bytes) {
  auto* const start = static_cast<std::byte*>(const_cast<void*>(address));
  const int gpu = cuda_.gpu_of(address);
  if (gpu < 0) return start;  // pinned memory of the host
  if (gpu != communicator.gpu)
    fault(fmt::format("GPU {} is to use memory of GPU {}", communicator.gpu, gpu));
  return cuda_.contents({start, bytes}).data();
}

void FakeNccl::reduce(const std::vector<Operation*>& ranks) {
  const KernelTable& kernels = *find_kernels("scalar");
  const Operation& root = *ranks[static_cast<std::size_t>(ranks[0]->root)];
  std::vector<float> sum(root.count), term(root.count);
  kernels.decode(ranks.back()->send, dtype_of(root.type), sum.data(), root.count);
  for (std::size_t rank = ranks.size() - 1; rank-- > 0;) {
    kernels.decode(ranks[rank]->send, dtype_of(root.type), term.data(), root.count);
    for (std::size_t i = 0; i < root.count; ++i) sum[i] += term[i];
  }
  kernels.encode(sum.data(), root.receive, dtype_of(root.type), root.count);
}

void FakeNccl::broadcast(const std::vector<Operation*>& ranks) {
  const Operation& root = *ranks[static_cast<std::size_t>(ranks[0]->root)];
  for (const Operation* each : ranks)
    if (each->receive != root.send)
      std::memcpy(each->receive, root.send, root.count * dtype_bytes(dtype_of(root.type)));
}

void FakeNccl::set_version(int code) {
  const std::lock_guard lock(mutex_);
  version_ = code;
}

void FakeNccl::fail(const std::string& call, int result) {
  const std::lock_guard lock(mutex_);
  failures_[call] = result;
}

void FakeNccl::break_ranks(int result) {
  const std::lock_guard lock(mutex_);
  broken_ = result;
}

void FakeNccl::hold(bool held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
}

FakeNccl::Faults FakeNccl::faults() const {
  const std::lock_guard lock(mutex_);
  return faults_;
}

int FakeNccl::communicators() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(std::count_if(communicators_.begin(), communicators_.end(),
                                        [](const auto& each) { return !each->freed; }));
}

int FakeNccl::operations() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

}  // namespace penstock::test
