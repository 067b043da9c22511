// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The in-process network of control connections: carries knocks, frames and closings from hub to
// hub, in order on each link.

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/api/control.h"
#include "transport/base/thread_annotations.h"

namespace penstock::loopback {

class LoopbackHub;

// One end of a link: link << 1 | side.
using LinkEnd = std::uint64_t;

struct Notice {
  enum class Kind : std::uint8_t { kKnock, kAccepted, kFrame, kClosed };
  Kind kind{};
  LinkEnd end = 0;               // whom it is for
  std::vector<std::byte> frame;  // kFrame
  std::string address;           // kKnock: who knocks
  Status reason;                 // kClosed
};

// Thread: all functions from any thread.
class ControlExchange {
 public:
  ~ControlExchange();

  std::string add_hub(LoopbackHub& hub);  // returns its name
  // Its links are closed by the hub before.
  void remove_hub(LoopbackHub& hub);

  Result<std::string> listen(LoopbackHub& hub, const std::string& address);
  // A new link from `hub`; a notice to it says kAccepted or kClosed.
  LinkEnd open(LoopbackHub& hub, const std::string& address);
  void accept(LinkEnd end);  // the answer to a knock
  Status send(LinkEnd end, std::span<const std::byte> frame);
  void close(LinkEnd end);
  std::deque<Notice> take(LoopbackHub& hub);  // what has arrived

  // Breaks every link between two hubs: both ends see kConnectionLost.
  void cut(const LoopbackHub& a, const LoopbackHub& b);

 private:
  struct Side {
    LoopbackHub* hub = nullptr;  // null where nobody listened
    bool open = false;
    std::size_t queued_bytes = 0;  // on the way to this side
  };
  struct Link {
    std::array<Side, 2> sides;
  };
  struct Hub {
    LoopbackHub* hub;
    std::string name;
    std::deque<Notice> inbox;
  };

  Side& side(LinkEnd end) REQUIRES(mutex_) { return links_.at(end >> 1).sides[end & 1]; }
  void carry(Notice notice) REQUIRES(mutex_);
  void shut(LinkEnd end) REQUIRES(mutex_);
  Hub& entry(const LoopbackHub& hub) REQUIRES(mutex_);

  Mutex mutex_;
  std::uint64_t hubs_made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t links_made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t ports_given_ GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Hub>> hubs_ GUARDED_BY(mutex_);  // in order of creation
  std::map<std::string, LoopbackHub*> listeners_ GUARDED_BY(mutex_);
  std::map<std::uint64_t, Link> links_ GUARDED_BY(mutex_);
};

}  // namespace penstock::loopback
