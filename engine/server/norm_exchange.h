// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NormExchange: adds up norms over the lanes of this server and over the servers. Each part is two
// numbers a slice; every server that has slices of the tensor gets all of them and adds them in the
// slices' order, so all come to the same bits, and so does one lane that has them all.
//
// A tensor with clip_global_norm belongs to the group of its declaration: the sum of squares over
// all tensors of that one declare(), in the order of their keys, taken round by round. A round of
// one of them waits for the same round of all.
//
// At most two rounds of a tensor are open: a worker pushes a round once it has all of the one
// before, so a server that has finished a round may be told of the next while another still misses
// a part of this one.
// Thread: the server's control loop. Messages are allocated, what lanes touch is not.

#include <array>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/protocol/messages.h"
#include "engine/protocol/shard_map.h"
#include "engine/server/norm_table.h"
#include "transport/base/clock.h"

namespace penstock {

class NormExchange {
 public:
  // rings: [lane], outlive this.
  NormExchange(Rank self, std::uint32_t servers, std::deque<NormRings>& rings)
      : self_(self), servers_(servers), rings_(rings), outgoing_(servers) {}

  // Returns the servers that this one must be connected with from now on.
  std::set<Rank> add(std::uint64_t order, std::span<const Declaration> batch,
                     const Placement& placement);
  void remove(std::span<const Key> keys);

  // Takes what lanes have ready and hands back what is complete. Returns how much was done.
  std::size_t run_once();
  bool may_sleep() const;

  // kProtocol, and nothing else is taken, for what a correct server does not send.
  Status receive(Rank server, const wire::NormPartialsT& message);

  // What `server` is to be sent now; empty parts for nothing.
  wire::NormPartialsT take_outgoing(Rank server) { return std::exchange(outgoing_[server], {}); }

  // Once per group: whom its norm has been waiting for since longer than `patience_ns`; else "".
  std::string overdue(TimeNs now_ns, TimeNs patience_ns);

 private:
  struct Stage {  // one round's parts
    Round round = 0;
    std::uint32_t missing = 0;
    std::uint32_t mine_missing = 0;
    std::vector<NormSums> parts;  // [slice], in the tensor's order
    std::vector<bool> heard;      // [server]
    NormSums sums;                // once missing is 0
  };
  struct Tensor {
    Declaration declaration;
    std::uint64_t group = 0;  // the order of its declare(); 0: none
    std::uint32_t slices = 0;
    std::vector<std::vector<std::uint32_t>> at_server;  // [server] → places in the tensor's order
    std::vector<std::vector<std::uint32_t>> at_lane;    // [lane of this server], likewise
    std::set<Rank> recipients;                          // other servers that want its parts
    Round done = 0;  // the last round whose last stage is complete
    std::uint8_t last_stage = kSumStage;
    std::array<std::array<Stage, kNormStages>, 2> stages;  // [round & 1]
    std::vector<NormTable*> waiting;                       // [lane]
  };
  struct Group {
    std::set<Key> keys;
    Round done = 0;
    struct {
      Round round = 0;
      std::size_t complete = 0;   // tensors whose sums are
    } rounds[2];                  // [round & 1]
    TimeNs waiting_since_ns = 0;  // 0: for nothing
    bool told = false;
  };

  Tensor make_tensor(const Declaration& declaration, std::uint64_t order,
                     const std::vector<std::pair<std::uint64_t, std::uint32_t>>& slices);
  Stage& open(Tensor& tensor, Round round, std::uint8_t stage);
  void take(std::uint32_t lane, const NormReady& ready);
  Status receive_part(Rank server, const wire::NormPartT& part);
  void send(Tensor& tensor, std::uint8_t stage, const Stage& parts);
  void complete(Tensor& tensor, std::uint8_t stage, Stage& parts);
  void complete_group(Group& group, Round round);
  void deliver(Tensor& tensor, std::uint8_t stage, const NormSums& sums, double group);
  std::size_t flush();
  Round oldest_open(const Tensor& tensor) const;

  const Rank self_;
  const std::uint32_t servers_;
  std::deque<NormRings>& rings_;
  std::map<Key, Tensor> tensors_;
  std::map<std::uint64_t, Group> groups_;
  std::vector<wire::NormPartialsT> outgoing_;                    // [server]
  std::deque<std::pair<std::uint32_t, NormCombined>> to_lanes_;  // wait for room
};

}  // namespace penstock
