// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "transport/api/control.h"

namespace penstock::control {
namespace {

// A buffer this small is kept between frames, so that steady traffic does not allocate; a larger
// one is given back, so that an idle channel does not hold 16 MiB.
constexpr std::size_t kKeptBytes = std::size_t{64} << 10;

constexpr std::uint32_t byte_at(const FrameHeader& header, std::size_t i) {
  return std::to_integer<std::uint32_t>(header[i]);
}

std::span<const std::byte> take(std::span<const std::byte>& input, std::size_t count) {
  const auto taken = input.first(count);
  input = input.subspan(count);
  return taken;
}

}  // namespace

FrameHeader encode_frame_header(std::size_t length, std::uint16_t flags) {
  const auto byte = [](std::size_t value) { return static_cast<std::byte>(value & 0xff); };
  return {byte(length),      byte(length >> 8),      byte(length >> 16), byte(length >> 24),
          byte(kFrameMagic), byte(kFrameMagic >> 8), byte(flags),        byte(flags >> 8U)};
}

Result<bool> FrameParser::next(std::span<const std::byte>& input,
                               std::span<const std::byte>& frame) {
  if (!error_.ok()) return error_;
  if (body_delivered_) start_frame();
  if (header_bytes_ < kFrameHeaderBytes) {
    if (!take_header(input)) return false;
    error_ = check_header();
    if (!error_.ok()) return error_;
  }
  if (body_.empty() && input.size() >= length_) {
    frame = take(input, length_);
    start_frame();
    return true;
  }
  append_body(input);
  if (body_.size() < length_) return false;
  frame = body_;
  body_delivered_ = true;
  header_bytes_ = 0;
  return true;
}

bool FrameParser::take_header(std::span<const std::byte>& input) {
  const auto part = take(input, std::min(kFrameHeaderBytes - header_bytes_, input.size()));
  std::copy(part.begin(), part.end(), header_.begin() + static_cast<std::ptrdiff_t>(header_bytes_));
  header_bytes_ += part.size();
  return header_bytes_ == kFrameHeaderBytes;
}

Status FrameParser::check_header() {
  const std::uint32_t magic = byte_at(header_, 4) | byte_at(header_, 5) << 8;
  const std::uint32_t flags = byte_at(header_, 6) | byte_at(header_, 7) << 8;
  length_ = byte_at(header_, 0) | byte_at(header_, 1) << 8 | byte_at(header_, 2) << 16 |
            byte_at(header_, 3) << 24;
  if (magic >> 8 != kFrameMagic >> 8)
    return {Code::kProtocol, fmt::format("control frame with magic {:#06x}", magic)};
  if (magic != kFrameMagic)
    return Status(Code::kProtocol, fmt::format("control frame of version {}, this side has {}",
                                               magic & 0xff, kFrameVersion))
        .with_hint("run the same Penstock release on both sides");
  if (flags != 0)
    return {Code::kProtocol, fmt::format("control frame with unknown flags {:#06x}", flags)};
  if (length_ > kMaxControlFrameBytes)
    return {Code::kProtocol, fmt::format("control frame of {} bytes, more than the largest, {}",
                                         length_, kMaxControlFrameBytes)};
  return {};
}

void FrameParser::append_body(std::span<const std::byte>& input) {
  const auto part = take(input, std::min(length_ - body_.size(), input.size()));
  const std::size_t needed = body_.size() + part.size();
  // Doubles with what arrived, never with what was claimed.
  if (needed > body_.capacity()) body_.reserve(std::min(length_, needed * 2));
  body_.insert(body_.end(), part.begin(), part.end());
}

void FrameParser::start_frame() {
  header_bytes_ = 0;
  body_delivered_ = false;
  if (body_.capacity() > kKeptBytes)
    std::vector<std::byte>().swap(body_);
  else
    body_.clear();
}

}  // namespace penstock::control
