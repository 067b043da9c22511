// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The open messages of a worker; see engine/runtime/message_stream.h.

#include <fmt/format.h>

#include "engine/worker/worker.h"
#include "transport/base/log.h"

namespace penstock {

Status Worker::send(Rank server, std::uint32_t channel, OpenMessage&& message) {
  if (options_.messages == nullptr)
    return {Code::kInvalidArgument, "this worker was started without a receiver of open messages"};
  if (std::optional<Status> failed = failure()) return *failed;
  if (!joined_.load(std::memory_order_acquire) || server >= servers())
    return {Code::kNotFound, fmt::format("no server {} of this job", server)};
  PENSTOCK_ASSIGN_OR_RETURN(auto prepared, MessageStream::prepare(regions_, std::move(message)));
  lanes_[channel % lanes_.size()]->send(server, std::move(prepared));
  return {};
}

Status Worker::send_note(Note&& note) {
  PENSTOCK_RETURN_IF_ERROR(check_note(note));
  if (std::optional<Status> failed = failure()) return *failed;
  notes_.push(std::move(note));
  waker_.wake();
  return {};
}

std::size_t Worker::send_notes() {
  std::vector<Note> notes = notes_.take();
  for (Note& note : notes) {
    if (!scheduler_) break;  // its loss is known elsewhere
    wire::NoteT message;
    message.to = static_cast<wire::Role>(note.role);
    message.to_rank = note.rank;
    message.body = std::move(note.body);
    links_.send(*scheduler_, std::move(message));
  }
  return notes.size();
}

void WorkerLane::send(Rank server, MessageStream::Prepared&& message) {
  inbox_.push(server, std::move(message));
  waker_.wake();
}

std::size_t WorkerLane::take_messages() {
  auto entries = inbox_.take();
  for (auto& [server, message] : entries) links_[server].messages->send(std::move(message));
  return entries.size();
}

void WorkerLane::start_messages(Rank server) {
  Link& link = links_[server];
  if (link.messages == nullptr) return;
  const Status started = link.messages->connected(*link.endpoint, link.peer_expects);
  if (started.ok()) return;
  PENSTOCK_LOG_WARN("lane {}: server {}: {}", index_, server, started.to_string());
  link.endpoint->close();
}

void WorkerLane::on_open_message(Rank server, const Completion& completion) {
  Link& link = links_[server];
  const Status taken = link.messages->on_completion(completion);
  if (taken.ok()) return;
  PENSTOCK_LOG_WARN("lane {}: server {}: {}; closing its data connection", index_, server,
                    taken.to_string());
  link.endpoint->close();
}

}  // namespace penstock
