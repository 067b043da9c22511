// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The in-process network of control connections: carries knocks, frames and closings from hub to
// hub, in order on each link; at once, or with a fault plan after a delay.

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "transport/api/control.h"
#include "transport/base/thread_annotations.h"
#include "transport/loopback/timeline.h"

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
class ControlExchange final : private Timeline::Subject {
 public:
  // `timeline` is null without a fault plan; outlives this.
  explicit ControlExchange(Timeline* timeline);
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
  std::vector<Notice> take(LoopbackHub& hub);  // what has arrived

  // Breaks every link between two hubs: both ends see kConnectionLost.
  void cut(const LoopbackHub& a, const LoopbackHub& b);
  // The hub's process is gone: nothing passes from or to it any more. Silent: its peers are not
  // told, and who connects to it hears nothing until somebody else listens there.
  void kill(const LoopbackHub& hub, bool silent);

 private:
  struct UnderWay {
    TimeNs due_ns;
    Notice notice;
  };
  struct Side {
    LoopbackHub* hub = nullptr;  // null where nobody listened, or no longer exists
    bool open = false;
    std::size_t queued_bytes = 0;      // on the way to this side
    std::deque<UnderWay> under_way{};  // to this side, with a fault plan
    TimeNs last_due_ns = 0;            // nothing overtakes
  };
  struct Link {
    std::array<Side, 2> sides;
    bool severed = false;  // nothing new passes
  };
  struct Hub {
    LoopbackHub* hub;
    std::string name;
    std::vector<Notice> inbox;
  };

  Side& side(LinkEnd end) REQUIRES(mutex_) { return links_.at(end >> 1).sides[end & 1]; }
  void on_due(std::uint64_t end) override;
  void carry(Notice notice) REQUIRES(mutex_);
  void sever(Link& link) REQUIRES(mutex_);
  void hand_over(LoopbackHub& hub, Notice notice) REQUIRES(mutex_);
  void shut(LinkEnd end) REQUIRES(mutex_);
  Hub& entry(const LoopbackHub& hub) REQUIRES(mutex_);

  Timeline* const timeline_;
  const Timeline::Handle handle_;
  Mutex mutex_;
  std::uint64_t hubs_made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t links_made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t ports_given_ GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Hub>> hubs_ GUARDED_BY(mutex_);  // in order of creation
  std::map<std::string, LoopbackHub*> listeners_ GUARDED_BY(mutex_);
  std::set<std::string> silent_ GUARDED_BY(mutex_);       // addresses of the silently dead
  std::set<const LoopbackHub*> dead_ GUARDED_BY(mutex_);  // looked up, never iterated
  std::map<std::uint64_t, Link> links_ GUARDED_BY(mutex_);
};

}  // namespace penstock::loopback
