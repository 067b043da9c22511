// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Unix sockets in the abstract namespace (a name, no file), and addresses as text. Nothing here
// blocks. Any thread.

#include <span>
#include <string>

#include "transport/base/status.h"
#include "transport/base/unique_fd.h"
#include "transport/shm/message.h"

namespace penstock::shm {

// "shm:<host>:<name>": host names this boot of this kernel and this network namespace, which is as
// far as an abstract socket can be reached.
struct Address {
  std::string host, name;
};
Result<Address> parse_address(const std::string& text);
std::string to_text(const Address& address);
Result<std::string> this_host();

Result<UniqueFd> listen_at(const std::string& name);
// A connected socket; −1 with OK when the listener's queue is full: try again. kConnectionLost when
// nobody listens.
Result<UniqueFd> connect_to(const std::string& name);
// The next connection, or −1.
UniqueFd accept_one(int listener);

// May the process at the other end have our memory: does it run as our user?
bool same_user(int fd);
// Can one ring here without ever waiting? What a peer sends as its bell must be that.
bool is_bell(int fd);

// 0 or errno.
int send_message(int fd, const Message& message, std::span<const int> fds = {});

enum class Heard : std::uint8_t { kNothing, kMessage, kGarbage, kHangUp };
Heard receive(int fd, Parcel& parcel);

}  // namespace penstock::shm
