// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/async_events.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

namespace penstock::verbs {

Status AsyncEvents::start() {
  for (const int fd : {rail_.events()->async_fd, rail_.verbs()->async_fd}) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
      return Status::system("make a device's event queue non-blocking", errno);
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
  return take_from(rail_.events(), true) + take_from(rail_.verbs(), false);
}

std::size_t AsyncEvents::take_from(ibv_context* context, bool of_port) {
  std::size_t taken = 0;
  ibv_async_event event{};
  for (; rail_.api().ibv_get_async_event(context, &event) == 0; ++taken) {
    act_on(event, of_port);
    rail_.api().ibv_ack_async_event(&event);  // only now may what it names be destroyed
  }
  return taken;
}

void AsyncEvents::act_on(const ibv_async_event& event, bool of_port) {
  const char* says = rail_.api().ibv_event_type_str(event.event_type);
  const auto lost = [&](Code code, const char* hint) {
    return Status(code, fmt::format("{} reports: {}", rail_.name(), says)).with_hint(hint);
  };
  switch (event.event_type) {
    case IBV_EVENT_PORT_ERR:
      if (of_port && event.element.port_num == rail_.port())
        tell({.reason = lost(Code::kConnectionLost, "the link went down")});
      return;
    case IBV_EVENT_DEVICE_FATAL:
      if (of_port) tell({.reason = lost(Code::kConnectionLost, "look into the kernel's log")});
      return;
    case IBV_EVENT_CQ_ERR:
      return tell({.cq = event.element.cq,
                   .reason = lost(Code::kExhausted, "completions were lost: please report it")});
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
      return tell({.qp = event.element.qp->qp_num,
                   .reason = lost(Code::kConnectionLost, "look into the kernel's log")});
    case IBV_EVENT_QP_ACCESS_ERR:
      return tell({.qp = event.element.qp->qp_num,
                   .reason = lost(Code::kAccess, "the peer reached for memory it may not touch")});
    default:
      return;  // nothing ends by it
  }
}

void AsyncEvents::tell(const Notice& notice) {
  MutexLock lock(mutex_);
  for (VerbsQueue* queue : queues_) queue->tell(notice);
}

}  // namespace penstock::verbs
