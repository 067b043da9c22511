// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The side of Worker that user's threads call. The control loop is in worker_control.cc.

#include "engine/worker/worker.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {

Worker::Worker(const Clock& clock, Device& device, ControlHub& hub, const KernelTable& kernels,
               LaneHost& host, WorkerOptions options)
    : clock_(clock),
      device_(device),
      kernels_(kernels),
      regions_(device, options.kind_of),
      host_(host),
      options_(std::move(options)),
      links_(hub, clock, *this, options_.detect_ns),
      redial_(clock) {
  operations_[kJoinTicket] = std::make_unique<Operation>();
}

Worker::~Worker() = default;

// ---- tickets ------------------------------------------------------------------------------------

Ticket Worker::begin(Call call) {
  call.deadline_ns = call_deadline_ns();
  Ticket ticket = 0;
  {
    MutexLock lock(mutex_);
    ticket = call.ticket = next_ticket_++;
    auto operation = std::make_unique<Operation>();
    if (failure_) {
      operation->status = *failure_;
      operation->done.store(true, std::memory_order_release);
    } else {
      calls_.push_back(std::move(call));
    }
    operations_[ticket] = std::move(operation);
  }
  waker_.wake();
  return ticket;
}

Ticket Worker::failed_ticket(Status status) {
  MutexLock lock(mutex_);
  const Ticket ticket = next_ticket_++;
  auto operation = std::make_unique<Operation>();
  operation->status = std::move(status);
  operation->done.store(true, std::memory_order_release);
  operations_[ticket] = std::move(operation);
  return ticket;
}

void Worker::complete(Ticket ticket, Status status) {
  MutexLock lock(mutex_);
  const auto found = operations_.find(ticket);
  if (found == operations_.end() || found->second->done.load(std::memory_order_relaxed)) return;
  found->second->status = std::move(status);
  found->second->done.store(true, std::memory_order_release);
  found->second->wait_point.notify();
}

std::optional<Status> Worker::poll(Ticket ticket) {
  MutexLock lock(mutex_);
  const auto found = operations_.find(ticket);
  if (found == operations_.end())
    return Status(Code::kNotFound, "a ticket that was never given or has been polled");
  if (!found->second->done.load(std::memory_order_acquire)) return std::nullopt;
  Status status = std::move(found->second->status);
  operations_.erase(found);
  return status;
}

// The control loop completes every operation by its deadline; the bound here only stands for a
// control loop that nobody runs.
Status Worker::wait(Ticket ticket) {
  const TimeNs limit_ns = call_deadline_ns() + 4 * options_.detect_ns + 5 * kSecond;
  Operation* operation = nullptr;
  {
    MutexLock lock(mutex_);
    const auto found = operations_.find(ticket);
    if (found != operations_.end()) operation = found->second.get();
  }
  while (operation != nullptr && clock_.now_ns() < limit_ns) {
    WaitPoint::Waiting waiting(operation->wait_point);
    const std::uint32_t seen = operation->wait_point.sequence();
    if (operation->done.load(std::memory_order_acquire)) break;
    operation->wait_point.wait(seen, limit_ns - clock_.now_ns());
  }
  if (std::optional<Status> status = poll(ticket)) return *status;
  return {Code::kTimeout, "the worker's control loop does not run"};
}

// ---- memory ----------------------------------------------------------------------------------

Result<std::shared_ptr<const MemoryRegion>> Worker::allocate(std::size_t bytes) {
  return regions_.allocate(bytes, Access::kRemoteWrite | Access::kMap);
}

Result<std::shared_ptr<const MemoryRegion>> Worker::register_memory(std::span<std::byte> bytes) {
  PENSTOCK_ASSIGN_OR_RETURN(RegisteredBuffer buffer,
                            regions_.acquire(bytes, Access::kRemoteWrite | Access::kMap));
  return std::move(buffer.region);
}

// ---- collective calls ---------------------------------------------------------------------------

Status Worker::join() { return wait(kJoinTicket); }
Status Worker::declare(std::vector<Tensor> tensors) {
  return wait(begin_declare(std::move(tensors)));
}
Status Worker::remove(std::vector<Key> keys) { return wait(begin_remove(std::move(keys))); }
Status Worker::barrier() { return wait(begin_barrier()); }
Status Worker::share(const std::string& name, std::span<std::byte> bytes, Rank root) {
  return wait(begin_share(name, bytes, root));
}
Status Worker::leave() { return wait(begin_leave()); }

Result<std::unique_ptr<InflightKey>> Worker::make_key(Tensor& tensor) {
  Declaration declaration{tensor.key, std::move(tensor.spec)};
  PENSTOCK_RETURN_IF_ERROR(validate(declaration));
  const TensorSpec& spec = declaration.spec;
  const bool no_parameters =
      tensor.view && tensor.parameters.empty() && (!spec.from_worker_0 || rank() != 0);
  if (tensor.gradients.size() != spec.gradient_bytes() ||
      (tensor.parameters.size() != spec.parameter_bytes() && !no_parameters))
    return Status(
        Code::kInvalidArgument,
        fmt::format("{}: buffers of {} and {} bytes; its gradients take {} and its "
                    "parameters {}",
                    describe(declaration), tensor.gradients.size(), tensor.parameters.size(),
                    spec.gradient_bytes(), spec.parameter_bytes()));
  PENSTOCK_RETURN_IF_ERROR(check_lendable(declaration, tensor));
  PENSTOCK_ASSIGN_OR_RETURN(auto gradients, regions_.acquire(tensor.gradients, Access::kMap));
  std::unique_ptr<GradientEncoder> encoder;
  if (spec.encoded()) {
    const auto* values = reinterpret_cast<const float*>(tensor.gradients.data());
    encoder =
        std::make_unique<GradientEncoder>(kernels_, spec.codec, std::span(values, spec.elements()));
  }
  RegisteredBuffer parameters;
  if (!no_parameters) {
    PENSTOCK_ASSIGN_OR_RETURN(parameters,
                              regions_.acquire(tensor.parameters, Access::kRemoteWrite));
  }
  auto key = std::make_unique<InflightKey>(std::move(declaration), std::move(gradients),
                                           std::move(parameters), tensor.view);
  key->encoder = std::move(encoder);
  return key;
}

Ticket Worker::begin_declare(std::vector<Tensor> tensors) {
  if (tensors.empty() || tensors.size() > kMaxDeclarationsPerCall)
    return failed_ticket(
        {Code::kInvalidArgument, fmt::format("declare takes 1 to {} tensors, not {}",
                                             kMaxDeclarationsPerCall, tensors.size())});
  Call call;
  call.kind = Call::Kind::kDeclare;
  std::vector<std::unique_ptr<InflightKey>> keys;
  for (Tensor& tensor : tensors) {
    auto key = make_key(tensor);
    if (!key.ok()) return failed_ticket(key.status());
    keys.push_back(std::move(*key));
  }
  {
    MutexLock lock(mutex_);
    for (const auto& key : keys)
      if (keys_.contains(key->declaration.key)) {
        const Status status(Code::kAlreadyExists,
                            describe(key->declaration) + " is declared already");
        for (InflightKey* added : call.keys) keys_.erase(added->declaration.key);
        lock.native().unlock();
        return failed_ticket(status);
      } else {
        call.keys.push_back(key.get());
      }
    for (auto& key : keys) {
      const Key id = key->declaration.key;
      keys_[id] = std::move(key);
    }
  }
  return begin(std::move(call));
}

Ticket Worker::begin_remove(std::vector<Key> keys) {
  Call call;
  call.kind = Call::Kind::kRemove;
  {
    MutexLock lock(mutex_);
    for (const Key key : keys) {
      const Result<InflightKey*> found = ready_key(key);
      Status status = found.status();
      if (status.ok() && found.value()->started() != found.value()->finished())
        status = Status(Code::kInvalidArgument,
                        describe(found.value()->declaration) + ": a round is running; wait for it");
      if (status.ok() && found.value()->declaration.spec.optimizer.clip_global_norm > 0)
        status = global_norm_at_rest(*found.value());
      if (!status.ok()) {
        lock.native().unlock();
        return failed_ticket(status);
      }
      call.keys.push_back(found.value());
    }
  }
  return begin(std::move(call));
}

// Servers drop the key from its group at different times: no round may depend on that.
Status Worker::global_norm_at_rest(const InflightKey& removed) const {
  for (const auto& [id, key] : keys_)
    if (key->declaration.spec.optimizer.clip_global_norm > 0 && key->started() != key->finished())
      return {Code::kInvalidArgument,
              fmt::format("{}: it is clipped by the global norm of several keys, and a round of {} "
                          "is running; wait for it",
                          describe(removed.declaration), describe(key->declaration))};
  return {};
}

Ticket Worker::begin_barrier() { return begin({}); }

Ticket Worker::begin_share(const std::string& name, std::span<std::byte> bytes, Rank root) {
  if (name.size() > kMaxNameBytes || bytes.empty() || bytes.size() > kMaxShareBytes)
    return failed_ticket({Code::kInvalidArgument,
                          fmt::format("share '{}': a name of {} bytes for {} bytes; up to {} and "
                                      "1 to {} can be",
                                      name.substr(0, kMaxNameBytes), name.size(), bytes.size(),
                                      kMaxNameBytes, kMaxShareBytes)});
  Call call;
  call.kind = Call::Kind::kShare;
  call.share.name = name;
  call.share.root = root;
  call.share.size = bytes.size();
  call.bytes = bytes;
  return begin(std::move(call));
}

Ticket Worker::begin_leave() {
  {
    MutexLock lock(mutex_);
    for (const auto& [id, key] : keys_)
      if (key->started() != key->finished()) {
        const Status status(
            Code::kInvalidArgument,
            describe(key->declaration) + ": a round is running; wait for it before leaving");
        lock.native().unlock();
        return failed_ticket(status);
      }
  }
  Call call;
  call.kind = Call::Kind::kLeave;
  return begin(std::move(call));
}

// ---- rounds -------------------------------------------------------------------------------------

Result<InflightKey*> Worker::ready_key(Key key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end() || found->second->finished() == 0)
    return Status(Code::kNotFound, fmt::format("key {} is not declared", key));
  return found->second.get();
}

Status Worker::push_pull(Key key, Round round) { return start_round(key, round, false); }
Status Worker::push_nothing(Key key, Round round) { return start_round(key, round, true); }

// Hop 1: the buffers are lent; every lane that owns slices of the key gets one command.
Status Worker::start_round(Key id, Round round, bool nothing) {
  if (failed_.load(std::memory_order_acquire)) return *failure();
  InflightKey* key = nullptr;
  {
    MutexLock lock(mutex_);
    PENSTOCK_ASSIGN_OR_RETURN(key, ready_key(id));
  }
  if (key->started() != key->finished())
    return {Code::kInvalidArgument, fmt::format("{}: round {} is still running",
                                                describe(key->declaration), key->started() - 1)};
  if (round != key->started())
    return {Code::kInvalidArgument, fmt::format("{}: round {} asked for, {} is next",
                                                describe(key->declaration), round, key->started())};
  const bool not_finite = !nothing && has_not_finite(*key);
  MutexLock producer(lane_producer_);
  for (const std::uint32_t lane : key->lanes)
    if (lanes_[lane]->commands_free() == 0)
      return Status(Code::kExhausted, describe(key->declaration) + ": too many rounds started")
          .with_hint("wait for some of them first");
  if (not_finite) not_finite_.fetch_add(1, std::memory_order_relaxed);
  key->start(round, not_finite);
  for (const std::uint32_t lane : key->lanes)
    CHECK(lanes_[lane]->command(PushKey{key, round, nothing, not_finite}));
  return {};
}

// The whole gradient, before its first slice goes: all of them must say the same.
bool Worker::has_not_finite(const InflightKey& key) const {
  const TensorSpec& spec = key.declaration.spec;
  return spec.not_finite != NotFinite::kAccept &&
         !kernels_.finite(key.gradients.region->bytes().data() + key.gradients.offset,
                          spec.gradient_dtype, spec.elements());
}

Result<bool> Worker::finished(Key id, Round round) {
  if (failed_.load(std::memory_order_acquire)) return *failure();
  MutexLock lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(const InflightKey* key, ready_key(id));
  if (key->finished() <= round) return false;
  PENSTOCK_RETURN_IF_ERROR(flush_parameters(*key));
  return true;
}

Status Worker::wait(Key id, Round round, TimeNs deadline_ns) {
  InflightKey* key = nullptr;
  {
    MutexLock lock(mutex_);
    PENSTOCK_ASSIGN_OR_RETURN(key, ready_key(id));
  }
  if (key->started() <= round)
    return {Code::kInvalidArgument,
            fmt::format("{}: round {} was not started", describe(key->declaration), round)};
  while (key->finished() <= round) {
    WaitPoint::Waiting waiting(key->wait_point);
    const std::uint32_t seen = key->wait_point.sequence();
    if (key->finished() > round) break;
    if (failed_.load(std::memory_order_acquire)) return *failure();
    const TimeNs left_ns = deadline_ns - clock_.now_ns();
    if (left_ns <= 0) return missing(*key, round);
    key->wait_point.wait(seen, left_ns);
  }
  PENSTOCK_RETURN_IF_ERROR(flush_parameters(*key));
  if (!key->failed(round)) return {};
  return Status(Code::kNotFinite,
                fmt::format("{}: round {} failed: a gradient has a NaN or an infinity, {}",
                            describe(key->declaration), round,
                            key->pushed_not_finite() ? "this worker's own" : "another worker's"))
      .with_hint("parameters and state are as before; the servers' logs and counters name who");
}

Status Worker::missing(const InflightKey& key, Round round) const {
  return Status(Code::kTimeout,
                fmt::format("{}: round {} lacks {} of {} slices", describe(key.declaration), round,
                            key.missing_slices(), key.slices))
      .with_hint("some worker has not pushed it, or a server is slow; the buffers stay lent");
}

std::optional<Status> Worker::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

Rank Worker::rank() const {
  MutexLock lock(mutex_);
  return rank_;
}

std::uint32_t Worker::workers() const {
  MutexLock lock(mutex_);
  return workers_;
}

std::uint32_t Worker::servers() const {
  MutexLock lock(mutex_);
  return servers_;
}

std::uint64_t Worker::slice_bytes() const {
  MutexLock lock(mutex_);
  return slice_bytes_;
}

}  // namespace penstock
