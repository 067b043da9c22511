// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The open messages of a server; see engine/runtime/message_stream.h.

#include <fmt/format.h>

#include "engine/server/server.h"

namespace penstock {

Status Server::send(Rank worker, std::uint32_t channel, OpenMessage&& message) {
  if (options_.messages == nullptr)
    return {Code::kInvalidArgument, "this server was started without a receiver of open messages"};
  if (std::optional<Status> over = finished(); over && !over->ok()) return *over;
  if (!running_.load(std::memory_order_acquire) || worker >= workers_.size())
    return {Code::kNotFound, fmt::format("no worker {} of this job", worker)};
  PENSTOCK_ASSIGN_OR_RETURN(auto prepared, MessageStream::prepare(regions_, std::move(message)));
  lanes_[channel % lanes_.size()]->send(worker, std::move(prepared));
  return {};
}

Status Server::send_note(Note&& note) {
  PENSTOCK_RETURN_IF_ERROR(check_note(note));
  if (!running_.load(std::memory_order_acquire))
    return {Code::kNotFound, "the job does not run yet"};
  notes_.push(std::move(note));
  waker_.wake();
  return {};
}

std::size_t Server::send_notes() {
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

void ServerLane::send(Rank worker, MessageStream::Prepared&& message) {
  inbox_.push(worker, std::move(message));
  waker_.wake();
}

std::size_t ServerLane::take_messages() {
  auto entries = inbox_.take();
  for (auto& [worker, message] : entries)
    if (peers_[worker].messages != nullptr) peers_[worker].messages->send(std::move(message));
  return entries.size();
}

void ServerLane::start_messages(Rank worker) {
  Peer& peer = peers_[worker];
  if (peer.messages == nullptr) return;
  const Status started = peer.messages->connected(*peer.endpoint, peer.expects_message);
  if (!started.ok())
    violate(worker, "it expects an open message that was never", peer.expects_message);
}

void ServerLane::on_open_message(Rank worker, const Completion& completion) {
  const Status taken = peers_[worker].messages->on_completion(completion);
  if (!taken.ok()) violate(worker, taken.what().c_str(), completion.length);
}

}  // namespace penstock
