// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// LocalGroup: a worker with several local devices. Each round of a key is
//
//   the devices' gradients, summed → the leader's buffer → push_pull → the leader's parameters →
//   every device's parameters
//
// so that one copy per worker crosses the network. The sum counts as the worker's contribution:
// with Reduce::kMean it is divided by the number of workers, not of devices.
//
//   LocalGroup group(worker, *devices, clock);
//   group.declare({{.tensor = {key, spec, gradients, parameters},
//                   .gradients = {…one for each device…}, .parameters = {…}}});
//   for (Round round = 1; …; ++round) {
//     … every device fills its gradients …
//     group.push_pull(key, round);      // buffers are lent until wait() returns OK
//     group.wait(key, round);           // every device has the result of the round
//   }
//
// Thread: one at a time. The rounds move on in progress() and wait(), which the program calls.
// Errors: an error of the devices or of the worker ends the round; the worker has not contributed
// to it and the job cannot go on with this worker.

#include <map>
#include <memory>
#include <vector>

#include "bindings/devices/device_group.h"
#include "engine/worker/worker.h"

namespace penstock {

// A tensor, with the buffers of every device. Those of `tensor` are what goes on the wire: memory
// that the worker can lend and device 0 reaches; they may be device 0's own. The sum replaces what
// tensor.gradients held.
struct LocalTensor {
  Tensor tensor;
  std::vector<std::byte*> gradients;   // [device], in the spec's dtypes
  std::vector<std::byte*> parameters;  // [device]
};

class LocalGroup {
 public:
  // All of them outlive the group; the worker has joined.
  LocalGroup(Worker& worker, DeviceGroup& devices, const Clock& clock)
      : worker_(worker), devices_(devices), clock_(clock) {}

  // As Worker::declare(): every device has the initial values when it returns.
  Status declare(std::vector<LocalTensor> tensors);
  Status remove(const std::vector<Key>& keys);  // no round of them may be running

  // As Worker::push_pull(): returns at once.
  Status push_pull(Key key, Round round);
  std::size_t progress();  // moves every round on; never waits
  Result<bool> finished(Key key, Round round) const;
  Status wait(Key key, Round round, TimeNs deadline_ns);
  Status wait(Key key, Round round) { return wait(key, round, worker_.call_deadline_ns()); }

 private:
  enum class Stage : std::uint8_t { kIdle, kReduce, kPush, kWire, kBroadcast };
  struct Entry {
    Declaration declaration;
    std::vector<std::byte*> gradients, parameters;
    std::byte* sum = nullptr;     // the leader's
    std::byte* result = nullptr;  // the leader's
    Stage stage = Stage::kIdle;
    std::optional<GroupTicket> ticket;  // of the reduce or the broadcast, once it could begin
    Round started = 0;                  // rounds below are started, …
    Round finished = 0;                 // … and finished
    Status status;                      // of the round that failed
  };
  GroupCall call_of(Entry& entry, GroupCallKind kind) const;
  Status check(LocalTensor& tensor) const;
  Result<Entry*> find(Key key) const;
  Result<bool> step(Entry& entry);  // true: the stage is over, or something was begun
  Result<bool> over(Entry& entry, GroupCallKind kind);
  Status wait(Entry& entry, Round round, TimeNs deadline_ns);

  Worker& worker_;
  DeviceGroup& devices_;
  const Clock& clock_;
  std::map<Key, std::unique_ptr<Entry>> entries_;
  std::vector<Entry*> active_;  // rounds that run, in the order in which they were started
};

}  // namespace penstock
