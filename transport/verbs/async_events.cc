// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/async_events.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

namespace penstock::verbs {

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
    taken += take_from(*rail, rail->events()) + take_from(*rail, rail->verbs());
  return taken;
}

std::size_t AsyncEvents::take_from(Rail& rail, ibv_context* context) {
  std::size_t taken = 0;
  ibv_async_event event{};
  for (; rail.api().ibv_get_async_event(context, &event) == 0; ++taken) {
    act_on(rail, event, context == rail.events());
    rail.api().ibv_ack_async_event(&event);  // only now may what it names be destroyed
  }
  return taken;
}

void AsyncEvents::act_on(Rail& rail, const ibv_async_event& event, bool of_port) {
  Notice notice{.rail = rail.index(), .qp = 0, .cq = nullptr, .reason = {}};
  const auto tell_lost = [&](Code code, const char* hint) {
    notice.reason = Status(code, fmt::format("{} reports: {}", rail.name(),
                                             rail.api().ibv_event_type_str(event.event_type)))
                        .with_hint(hint);
    tell(notice);
  };
  switch (event.event_type) {
    case IBV_EVENT_PORT_ERR:
      if (!of_port || event.element.port_num != rail.port()) return;
      rail.health().set_down(true);
      return tell_lost(Code::kConnectionLost, "the link went down");
    case IBV_EVENT_PORT_ACTIVE:
      if (of_port && event.element.port_num == rail.port()) rail.health().set_down(false);
      return;
    case IBV_EVENT_DEVICE_FATAL:
      if (of_port) tell_lost(Code::kConnectionLost, "look into the kernel's log");
      return;
    case IBV_EVENT_CQ_ERR:
      notice.cq = event.element.cq;
      return tell_lost(Code::kExhausted, "completions were lost: please report it");
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
      notice.qp = event.element.qp->qp_num;
      return tell_lost(Code::kConnectionLost, "look into the kernel's log");
    case IBV_EVENT_QP_ACCESS_ERR:
      notice.qp = event.element.qp->qp_num;
      return tell_lost(Code::kAccess, "the peer reached for memory it may not touch");
    default:
      return;  // nothing ends by it
  }
}

void AsyncEvents::tell(const Notice& notice) {
  MutexLock lock(mutex_);
  for (VerbsQueue* queue : queues_) queue->tell(notice);
}

}  // namespace penstock::verbs
