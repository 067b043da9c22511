// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A data request of a worker, cut by server, and its answers put together. Thread: one at a time.

#include <optional>
#include <vector>

#include "bindings/pslite/include/ps/internal/runtime.h"
#include "bindings/pslite/message.h"

namespace penstock::pslite {

// A MessagePart that releases what came with the bytes.
MessagePart take_over(const penstock_ps_bytes& bytes);

class DataRequest {
 public:
  // Takes over what keeps the arrays. value_size: bytes of one value.
  DataRequest(const penstock_ps_data_request& given, std::uint64_t value_size);
  ~DataRequest();  // tells the owner that it failed, if nothing else was said
  DataRequest(const DataRequest&) = delete;
  DataRequest& operator=(const DataRequest&) = delete;

  // One message per server that owns a key, in the order of the keys. kInvalidArgument in words.
  Result<std::vector<Message>> cut(std::uint32_t servers, int app, int customer, int timestamp);

  std::size_t expected() const { return slices_.size(); }
  // Where a server's values are to land; empty: anywhere.
  std::span<std::byte> place(int server, std::uint64_t size) const;
  // False: nothing is expected from there.
  bool answer(Message&& message);
  bool answered() const { return missing_ == 0; }
  // Can this answer be taken on any thread, shortly?
  bool plain(const Message& answer) const;
  // Brings the values where they belong; then finish(true) tells the owner.
  Status assemble();
  void finish(bool answered);

 private:
  // Where the values of each key end, in bytes.
  struct Ends {
    bool known = false;
    std::uint64_t each = 0;                  // of a key, where all are equal
    std::vector<std::uint64_t> by_key = {};  // else
    std::uint64_t before(std::size_t key) const {
      if (by_key.empty()) return each * key;
      return key == 0 ? 0 : by_key[key - 1];
    }
  };
  struct Slice {
    int server = 0;
    std::size_t first = 0, keys = 0;            // of the request
    std::uint64_t push_at = 0, push_bytes = 0;  // of its values
    std::uint64_t pull_at = 0;                  // of the answer's, as far as can be known
    std::optional<std::uint64_t> pull_bytes = {};
    bool done = false;
    Message answer = {};
    std::uint64_t bytes() const { return size_of(kVals - 1); }
    std::uint64_t lens() const { return size_of(kLens - 1) / sizeof(std::int32_t); }
    std::uint64_t size_of(std::size_t part) const {
      return part < answer.parts.size() ? answer.parts[part].bytes.size() : 0;
    }
  };
  Status measure();
  Status find_slices(std::uint32_t servers);
  Message make_message(const Slice& slice, int app, int customer, int timestamp) const;
  Status assemble_lens();
  Status fill(std::byte* to);

  const penstock_ps_data_request given_;
  const std::uint64_t value_size_;
  const MessagePart keys_, vals_, lens_;
  bool told_ = false;
  Ends push_ends_, pull_ends_;
  std::vector<Slice> slices_;
  std::size_t missing_ = 0;
};

}  // namespace penstock::pslite
