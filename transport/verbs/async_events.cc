// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/async_events.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <optional>

namespace penstock::verbs {
namespace {

// Everyone in the process who hears of what happens in rdma_cm's contexts.
struct Audience {
  Mutex mutex;
  std::vector<AsyncEvents*> members GUARDED_BY(mutex);
};

Audience& audience() {
  static Audience everyone;
  return everyone;
}

Notice bad_news(const Rail& rail, const ibv_async_event& event, Code code, const char* hint) {
  Notice notice;
  notice.rail = rail.index();
  notice.reason = Status(code, fmt::format("{} reports: {}", rail.name(),
                                           rail.api().ibv_event_type_str(event.event_type)))
                      .with_hint(hint);
  return notice;
}

// What `event` means for the queues on `rail`, if anything of theirs ends by it.
std::optional<Notice> breakage(const Rail& rail, const ibv_async_event& event) {
  const auto broken = [&](Code code, const char* hint) {
    return bad_news(rail, event, code, hint);
  };
  Notice notice;
  switch (event.event_type) {
    case IBV_EVENT_CQ_ERR:
      notice = broken(Code::kExhausted, "completions were lost: please report it");
      notice.cq = event.element.cq;
      return notice;
    case IBV_EVENT_SRQ_ERR:
      notice = broken(Code::kConnectionLost, "look into the kernel's log");
      notice.srq = event.element.srq;
      return notice;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
      notice = broken(Code::kConnectionLost, "look into the kernel's log");
      notice.qp = event.element.qp->qp_num;
      return notice;
    case IBV_EVENT_QP_ACCESS_ERR:
      notice = broken(Code::kAccess, "the peer reached for memory it may not touch");
      notice.qp = event.element.qp->qp_num;
      return notice;
    default:
      return std::nullopt;
  }
}

}  // namespace

AsyncEvents::AsyncEvents(std::span<const std::unique_ptr<Rail>> rails) : rails_(rails) {
  MutexLock lock(audience().mutex);
  audience().members.push_back(this);
}

AsyncEvents::~AsyncEvents() {
  MutexLock lock(audience().mutex);
  std::erase(audience().members, this);
}

Status AsyncEvents::start() {
  for (const std::unique_ptr<Rail>& rail : rails_) {
    for (const int fd : {rail->events()->async_fd, rail->verbs()->async_fd}) {
      const int flags = ::fcntl(fd, F_GETFL);
      if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return Status::system("make a device's event queue non-blocking", errno);
    }
  }
  return {};
}

void AsyncEvents::add(VerbsQueue& queue) {
  MutexLock lock(mutex_);
  queues_.push_back(&queue);
  ++made_;
}

void AsyncEvents::remove(VerbsQueue& queue) {
  MutexLock lock(mutex_);
  std::erase(queues_, &queue);
}

int AsyncEvents::queues_made() const {
  MutexLock lock(mutex_);
  return made_;
}

std::size_t AsyncEvents::take() {
  std::size_t taken = 0;
  for (const std::unique_ptr<Rail>& rail : rails_)
    taken += take_port_events(*rail) + take_shared_events(*rail);
  return taken;
}

std::size_t AsyncEvents::take_port_events(Rail& rail) {
  std::size_t taken = 0;
  ibv_async_event event{};
  for (; rail.api().ibv_get_async_event(rail.events(), &event) == 0; ++taken) {
    act_on_port(rail, event);
    rail.api().ibv_ack_async_event(&event);
  }
  return taken;
}

std::size_t AsyncEvents::take_shared_events(const Rail& rail) {
  std::size_t taken = 0;
  ibv_async_event event{};
  for (; rail.api().ibv_get_async_event(rail.verbs(), &event) == 0; ++taken) {
    {
      MutexLock lock(audience().mutex);
      for (AsyncEvents* each : audience().members) each->hear(rail.verbs(), event);
    }
    rail.api().ibv_ack_async_event(&event);  // only now may what it names be destroyed
  }
  return taken;
}

void AsyncEvents::act_on_port(Rail& rail, const ibv_async_event& event) {
  switch (event.event_type) {
    case IBV_EVENT_PORT_ERR:
      if (event.element.port_num != rail.port()) return;
      rail.health().set_down(true);
      return tell(bad_news(rail, event, Code::kConnectionLost, "the link went down"));
    case IBV_EVENT_PORT_ACTIVE:
      if (event.element.port_num != rail.port()) return;
      rail.health().set_down(false);
      return tell({.rail = rail.index()});
    case IBV_EVENT_DEVICE_FATAL:
      return tell(bad_news(rail, event, Code::kConnectionLost, "look into the kernel's log"));
    default:
      return;  // nothing ends by it
  }
}

void AsyncEvents::hear(const ibv_context* context, const ibv_async_event& event) {
  for (const std::unique_ptr<Rail>& rail : rails_) {
    if (rail->verbs() != context) continue;
    if (const std::optional<Notice> notice = breakage(*rail, event)) tell(*notice);
  }
}

void AsyncEvents::tell(const Notice& notice) {
  MutexLock lock(mutex_);
  for (VerbsQueue* queue : queues_) queue->tell(notice);
}

}  // namespace penstock::verbs
