// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Publications: a worker leaves bytes under a name and a version at a server, others fetch them,
// waiting for a version that is not there yet. For weights that go to readers outside the rounds.
// They ride requests on a channel of their own; a name lives on one server. Only the newest version
// is kept; what is being fetched stays until it is fetched.

#include <map>
#include <string>
#include <vector>

#include "bindings/cpp/requests.h"

namespace penstock {

inline constexpr std::size_t kMaxPublicationName = 255;   // bytes
inline constexpr std::size_t kMaxPublicationForm = 256;   // bytes
inline constexpr std::size_t kMaxPublications = 1 << 16;  // names of one server
inline constexpr std::size_t kMaxHeldFetches = 1 << 16;   // waiting at one server

// The server's end. Thread: any.
class Publications {
 public:
  // One on kFirstServiceChannel. Answers it, or keeps it until its version comes.
  void handle(Request request);
  // Refuses what is held and what comes; before the node goes.
  void close();

 private:
  struct Entry {
    std::uint64_t version = 0;
    std::vector<std::byte> form;
    std::vector<MessagePart> parts;
  };
  struct Held {
    std::uint64_t version = 0;
    TimeNs expires_ns = 0;
    std::vector<std::byte> form;
    Request request;
  };
  struct Question;

  void publish(const Question& question, Request& request) REQUIRES(mutex_);
  void fetch(const Question& question, Request&& request) REQUIRES(mutex_);
  void withdraw(const Question& question, Request& request) REQUIRES(mutex_);
  static void give(const Entry& entry, std::span<const std::byte> form, Request& request);
  void forget_expired() REQUIRES(mutex_);

  Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  std::map<std::string, Entry, std::less<>> entries_ GUARDED_BY(mutex_);
  std::multimap<std::string, Held, std::less<>> held_ GUARDED_BY(mutex_);
};

// The worker's end: what all calls need. `form` describes the bytes (a dtype, a shape) and is only
// compared: a fetch with another form fails with kMismatch and writes nothing. `bytes` are lent
// until the call returns OK; if it fails, until the worker's end.
struct PublicationClient {
  Requests& requests;
  const Worker& worker;

  // Returns when the server has them. kStale when the name has this version or a newer one.
  Status publish(const std::string& name, std::uint64_t version, std::span<const std::byte> form,
                 std::span<const std::byte> bytes, TimeNs deadline_ns) const;
  // Fills `bytes` with the newest version, at least `version`, waiting for one; returns which.
  // kTimeout names what is missing.
  Result<std::uint64_t> fetch(const std::string& name, std::uint64_t version,
                              std::span<const std::byte> form, std::span<std::byte> bytes,
                              TimeNs deadline_ns) const;
  // Frees the server's memory; kNotFound. Fetches that wait go on waiting.
  Status withdraw(const std::string& name, TimeNs deadline_ns) const;
};

}  // namespace penstock
