// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// How requests are cut by server, and how answers are put together.

#include "bindings/pslite/data_request.h"

#include <gmock/gmock.h>

#include <cstring>

namespace penstock::pslite {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kHalf = UINT64_MAX / 2;  // where the second of two servers begins

// A request of int32 values, and where its answer goes.
struct Asking {
  std::vector<std::uint64_t> keys = {};
  std::vector<std::int32_t> vals = {}, lens = {}, into = {}, got_lens = {};
  bool empty_target = false;
  int done = -1;

  std::unique_ptr<DataRequest> request(bool push, bool pull) {
    penstock_ps_data_request given{};
    given.keys = {keys.data(), keys.size() * 8, nullptr, nullptr};
    given.vals = {vals.data(), vals.size() * 4, nullptr, nullptr};
    given.lens = {lens.data(), lens.size() * 4, nullptr, nullptr};
    given.max_key = UINT64_MAX;
    given.push = push;
    given.pull = pull;
    given.pull_to = into.empty() ? nullptr : into.data();
    given.pull_size = into.size() * 4;
    given.pull_lens = 1;
    given.context = this;
    given.place_vals = [](void* self, std::uint64_t size, penstock_ps_bytes*) -> void* {
      auto& asking = *static_cast<Asking*>(self);
      asking.into.resize(size / 4);
      return asking.into.data();
    };
    given.place_lens = [](void* self, std::uint64_t count) -> std::int32_t* {
      auto& asking = *static_cast<Asking*>(self);
      asking.got_lens.resize(count);
      return asking.got_lens.data();
    };
    given.done = [](void* self, int answered) { static_cast<Asking*>(self)->done = answered; };
    return std::make_unique<DataRequest>(given, 4);
  }
};

std::vector<std::int32_t> ints(const MessagePart& part) {
  std::vector<std::int32_t> values(part.bytes.size() / 4);
  if (!values.empty()) std::memcpy(values.data(), part.bytes.data(), part.bytes.size());
  return values;
}

MessagePart part_of(const std::vector<std::int32_t>& values) {
  return own({reinterpret_cast<const char*>(values.data()), values.size() * 4});
}

Message answer(int server, std::vector<std::int32_t> vals, std::vector<std::int32_t> lens = {}) {
  Message message = make(Kind::kResponse, server);
  message.parts = {part_of(vals), part_of(lens)};
  return message;
}

TEST(DataRequest, IsCutByServer) {
  Asking asking{.keys = {1, 5, kHalf + 1}, .vals = {10, 11, 50, 51, 60, 61}};
  const auto request = asking.request(true, false);
  const auto messages = request->cut(2, 0, 0, 7);
  ASSERT_TRUE(messages.ok());
  ASSERT_EQ(messages->size(), 2u);
  const Message &first = messages.value()[0], &second = messages.value()[1];
  EXPECT_EQ(first.peer, server_id(0));
  EXPECT_EQ(second.peer, server_id(1));
  EXPECT_EQ(first.envelope.keys, 2u);
  EXPECT_EQ(first.envelope.timestamp, 7);
  EXPECT_EQ(ints(first.parts[kVals]), (std::vector<std::int32_t>{10, 11, 50, 51}));
  EXPECT_EQ(ints(second.parts[kVals]), (std::vector<std::int32_t>{60, 61}));
  EXPECT_EQ(first.parts[kVals].bytes.data(), reinterpret_cast<std::byte*>(asking.vals.data()));
}

TEST(DataRequest, LensCutUnevenlyAndMayBeZero) {
  Asking asking{.keys = {1, 1, kHalf + 9, kHalf + 2}, .vals = {1, 2, 3}, .lens = {0, 1, 2, 0}};
  const auto messages = asking.request(true, false)->cut(2, 0, 0, 0);
  ASSERT_TRUE(messages.ok()) << messages.status().to_string();
  EXPECT_EQ(ints(messages.value()[0].parts[kVals]), (std::vector<std::int32_t>{1}));
  EXPECT_EQ(ints(messages.value()[1].parts[kVals]), (std::vector<std::int32_t>{2, 3}));
  EXPECT_EQ(ints(messages.value()[1].parts[kLens]), (std::vector<std::int32_t>{2, 0}));
}

TEST(DataRequest, WhatCannotBeIsRefusedInWords) {
  const auto why = [](Asking asking, bool pull = false) {
    return asking.request(!pull, pull)->cut(2, 0, 0, 0).status().to_string();
  };
  EXPECT_THAT(why({.keys = {UINT64_MAX}, .vals = {1}}), HasSubstr("above the last server's range"));
  EXPECT_THAT(why({.keys = {1, kHalf + 1, 2}, .vals = {1, 2, 3}}), HasSubstr("keys must ascend"));
  EXPECT_THAT(why({.keys = {1, 2}, .vals = {1, 2, 3}}), HasSubstr("3 values for 2 keys"));
  EXPECT_THAT(why({.keys = {1, 2}, .vals = {1, 2}, .lens = {2}}), HasSubstr("2 keys have 1 lens"));
  EXPECT_THAT(why({.keys = {1}, .vals = {1}, .lens = {-1}}), HasSubstr("negative"));
  EXPECT_THAT(why({.keys = {1}, .vals = {1}, .lens = {2}}), HasSubstr("lens add up to 2"));
}

TEST(DataRequest, AnswersLandInPlaceAndAreNotMoved) {
  Asking asking{.keys = {1, kHalf + 1}, .into = {0, 0, 0, 0}};
  const auto request = asking.request(false, true);
  ASSERT_TRUE(request->cut(2, 0, 0, 0).ok());
  EXPECT_TRUE(request->place(server_id(1), 4).empty());  // not what belongs there
  const auto place = request->place(server_id(1), 8);
  ASSERT_EQ(place.data(), reinterpret_cast<std::byte*>(&asking.into[2]));
  const std::int32_t landed[] = {30, 31};
  std::memcpy(place.data(), landed, sizeof landed);
  Message second = make(Kind::kResponse, server_id(1));
  second.parts = {{place, nullptr}};
  EXPECT_TRUE(request->answer(std::move(second)));
  EXPECT_TRUE(request->answer(answer(server_id(0), {20, 21})));
  EXPECT_FALSE(request->answer(answer(server_id(0), {66, 66})));  // once more than asked
  EXPECT_TRUE(request->answered());
  ASSERT_TRUE(request->assemble().ok());
  EXPECT_EQ(asking.into, (std::vector<std::int32_t>{20, 21, 30, 31}));
}

TEST(DataRequest, AnswersThatLandedInTheWrongPlaceAreMoved) {
  Asking asking{.keys = {1, kHalf + 1, kHalf / 2 * 3}, .into = std::vector<std::int32_t>(6)};
  const auto request = asking.request(false, true);
  ASSERT_TRUE(request->cut(3, 0, 0, 0).ok());
  // Receive two values where they were expected, then three and one from the others.
  const auto place = request->place(server_id(1), 8);
  ASSERT_EQ(place.size(), 8u);
  const std::int32_t landed[] = {4, 5};
  std::memcpy(place.data(), landed, sizeof landed);
  Message second = make(Kind::kResponse, server_id(1));
  second.parts = {{place, nullptr}};
  EXPECT_TRUE(request->answer(std::move(second)));
  EXPECT_TRUE(request->answer(answer(server_id(0), {1, 2, 3})));
  EXPECT_TRUE(request->answer(answer(server_id(2), {6})));
  ASSERT_TRUE(request->assemble().ok());
  EXPECT_EQ(asking.into, (std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}));
}

TEST(DataRequest, AnEmptyTargetGetsWhatCameAndItsLens) {
  Asking asking{.keys = {1, kHalf + 1}};
  const auto request = asking.request(false, true);
  ASSERT_TRUE(request->cut(2, 0, 0, 0).ok());
  EXPECT_TRUE(request->answer(answer(server_id(1), {3}, {1})));
  EXPECT_TRUE(request->answer(answer(server_id(0), {1, 2}, {2})));
  ASSERT_TRUE(request->assemble().ok());
  EXPECT_EQ(asking.into, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(asking.got_lens, (std::vector<std::int32_t>{2, 1}));
}

TEST(DataRequest, OneThatIsDroppedTellsItsOwnerOnce) {
  Asking asking{.keys = {1}, .vals = {1}};
  asking.request(true, false).reset();
  EXPECT_EQ(asking.done, 0);
  asking.request(true, false)->finish(true);
  EXPECT_EQ(asking.done, 1);
}

TEST(Envelope, BytesOfStrangersAreRefused) {
  const Message message = make(Kind::kRequest, 9);
  std::vector<std::byte> bytes = encode(message.envelope);
  Envelope envelope;
  EXPECT_TRUE(decode(bytes, envelope));
  bytes[4] = std::byte{99};  // the kind
  EXPECT_FALSE(decode(bytes, envelope));
  bytes[4] = std::byte{1};
  bytes[0] ^= std::byte{1};  // the version
  EXPECT_FALSE(decode(bytes, envelope));
  EXPECT_FALSE(decode(std::span(bytes).first(10), envelope));
  Message note;
  EXPECT_FALSE(decode_note(std::vector<std::uint8_t>(10), note));
}

TEST(Note, CarriesAllPartsAndNothingElse) {
  Message message = make(Kind::kRequest, 8);
  message.envelope.keys = 1;
  message.parts = {own("the keys"), own(""), own("lens")};
  std::vector<std::uint8_t> bytes = encode_note(message);
  Message note;
  ASSERT_TRUE(decode_note(bytes, note));
  EXPECT_EQ(note.envelope.keys, 1U);
  ASSERT_EQ(note.parts.size(), 3U);
  EXPECT_EQ(note.body(), "the keys");
  EXPECT_EQ(note.parts[1].bytes.size(), 0U);
  EXPECT_EQ(note.parts[2].bytes.size(), 4U);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_note(std::span(bytes).first(size), note)) << size;
  bytes.push_back(0);
  EXPECT_FALSE(decode_note(bytes, note));
  bytes.pop_back();
  bytes[sizeof(Envelope)] = 200;  // parts
  EXPECT_FALSE(decode_note(bytes, note));
  bytes[sizeof(Envelope)] = 3;
  bytes[sizeof(Envelope) + 15] = 255;  // the top of the first size
  EXPECT_FALSE(decode_note(bytes, note));
}

}  // namespace
}  // namespace penstock::pslite
