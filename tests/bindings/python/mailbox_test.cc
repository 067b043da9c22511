// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

namespace penstock::python {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::int64_t kSoonMs = 20'000;

// The processes of a group as threads of this one.
class MailboxGroup : public ::testing::Test {
 protected:
  void start(std::uint32_t size) {
    Mailbox::Options options = {{"insecure", "1"}, {"pin", "0"}, {"timeout_ms", "20000"}};
    for (std::uint32_t rank = 0; rank < size; ++rank)
      mailboxes.push_back(std::make_unique<Mailbox>());
    Mailbox::Options job = options;
    job["workers"] = job["servers"] = std::to_string(size);
    options["scheduler"] = mailboxes[0]->host(job);
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] { mailboxes[rank]->join(options, rank, size); });
    for (std::thread& thread : threads) thread.join();
  }
  void TearDown() override {
    for (const auto& mailbox : mailboxes) mailbox->leave();
    for (const auto& mailbox : mailboxes) EXPECT_TRUE(mailbox->linger(kSoonMs));
  }

  std::vector<std::unique_ptr<Mailbox>> mailboxes;
};

std::string text_of(const Receive& receive) {
  const penstock_array array = receive.array();
  return {static_cast<const char*>(array.data), array.bytes};
}

TEST_F(MailboxGroup, MatchesByTagAndSenderInTheOrderOfSending) {
  start(3);
  // Receive …: two with one tag from rank 1, one from rank 2, before and after anyone asks.
  const std::string one = "one", two = "two", other = "other";
  const auto first = mailboxes[1]->send(0, "a", "note", one.data(), one.size());
  const auto second = mailboxes[1]->send(0, "a", "note", two.data(), two.size());
  const auto third = mailboxes[2]->send(0, "a", "", other.data(), other.size());
  const auto from_2 = mailboxes[0]->receive({2}, "a", nullptr, 0);
  const auto from_1 = mailboxes[0]->receive({1}, "a", nullptr, 0);
  ASSERT_TRUE(from_2->wait(kSoonMs));
  ASSERT_TRUE(from_1->wait(kSoonMs));
  // Expect …
  EXPECT_EQ(text_of(*from_2), "other");
  EXPECT_EQ(text_of(*from_1), "one");
  EXPECT_EQ(from_1->note(), "note");
  EXPECT_FALSE(mailboxes[1]->sent(second, 0));  // nobody has taken it
  EXPECT_FALSE(mailboxes[1]->sent(first, 0));   // its memory is in use
  from_1->release();
  EXPECT_TRUE(mailboxes[1]->sent(first, kSoonMs));
  std::string place = "...";
  const auto again = mailboxes[0]->receive({1, 2}, "a", place.data(), place.size());
  ASSERT_TRUE(again->wait(kSoonMs));
  EXPECT_EQ(again->from(), 1U);
  EXPECT_EQ(place, "two");
  EXPECT_TRUE(mailboxes[1]->sent(second, kSoonMs));
  from_2->release();
  EXPECT_TRUE(mailboxes[2]->sent(third, kSoonMs));
}

TEST_F(MailboxGroup, PostedMemoryIsFilledWithoutAnyoneWaiting) {
  start(2);
  std::vector<std::byte> place(3 << 20);
  const std::vector<std::byte> sent(place.size(), std::byte{7});
  const auto receive = mailboxes[1]->receive({0}, "big", place.data(), place.size());
  const auto number = mailboxes[0]->send(1, "big", "", sent.data(), sent.size());
  EXPECT_TRUE(mailboxes[0]->sent(number, kSoonMs));
  EXPECT_TRUE(receive->wait(0));
  EXPECT_EQ(std::memcmp(place.data(), sent.data(), sent.size()), 0);
}

TEST_F(MailboxGroup, AnotherLengthFailsBothSides) {
  start(2);
  char place[4] = {};
  const auto receive = mailboxes[1]->receive({0}, "t", place, sizeof place);
  const auto number = mailboxes[0]->send(1, "t", "", "ab", 2);
  EXPECT_THAT([&] { receive->wait(kSoonMs); },
              ThrowsMessage<MailboxError>(HasSubstr("rank 0 sent 2 bytes, rank 1 expects 4")));
  EXPECT_THAT([&] { (void)mailboxes[0]->sent(number, kSoonMs); },
              ThrowsMessage<MailboxError>(HasSubstr("rank 0 sent 2 bytes, rank 1 expects 4")));
}

TEST_F(MailboxGroup, AReceiveThatIsGivenUpTakesNothing) {
  start(2);
  char place = 'x';
  auto receive = mailboxes[1]->receive({0}, "t", &place, 1);
  EXPECT_FALSE(receive->wait(1));
  receive.reset();
  const auto number = mailboxes[0]->send(1, "t", "", "y", 1);
  receive = mailboxes[1]->receive({0}, "t", nullptr, 0);
  ASSERT_TRUE(receive->wait(kSoonMs));
  EXPECT_EQ(place, 'x');
  EXPECT_EQ(text_of(*receive), "y");
  receive->release();
  EXPECT_TRUE(mailboxes[0]->sent(number, kSoonMs));
}

TEST_F(MailboxGroup, WhoLeavesIsNamedAndWhatItSentBeforeStays) {
  start(2);
  const auto waiting = mailboxes[0]->receive({1}, "never", nullptr, 0);
  const auto refused = mailboxes[0]->send(1, "unwanted", "", "z", 1);
  const auto last = mailboxes[1]->send(0, "last", "", "w", 1);
  std::thread leaves([&] { mailboxes[1]->leave(); });
  EXPECT_THAT([&] { waiting->wait(kSoonMs); },
              ThrowsMessage<MailboxError>(HasSubstr("rank 1 has left the group")));
  EXPECT_THAT([&] { (void)mailboxes[0]->sent(refused, kSoonMs); },
              ThrowsMessage<MailboxError>(HasSubstr("rank 1 has left the group")));
  EXPECT_THAT([&] { mailboxes[0]->receive({1}, "later", nullptr, 0)->wait(kSoonMs); },
              ThrowsMessage<MailboxError>(HasSubstr("rank 1 has left the group")));
  const auto receive = mailboxes[0]->receive({1}, "last", nullptr, 0);
  ASSERT_TRUE(receive->wait(kSoonMs));
  EXPECT_EQ(text_of(*receive), "w");
  leaves.join();
  (void)last;
}

TEST_F(MailboxGroup, ADeathFailsAWaitingReceiveAndNamesTheProcess) {
  start(2);
  const auto waiting = mailboxes[0]->receive({1}, "never", nullptr, 0);
  mailboxes[1]->destroy();
  EXPECT_THAT([&] { waiting->wait(kSoonMs); }, ThrowsMessage<MailboxError>(HasSubstr("worker 1")));
}

TEST_F(MailboxGroup, CallsUnderWayEndWhenTheNodesDo) {
  start(2);
  const auto number = mailboxes[0]->send(1, "t", "", "a", 1);
  const auto waiting = mailboxes[0]->receive({1}, "never", nullptr, 0);
  std::thread sender(
      [&] { EXPECT_THROW((void)mailboxes[0]->sent(number, kSoonMs), MailboxError); });
  std::thread receiver([&] { EXPECT_THROW(waiting->wait(kSoonMs), MailboxError); });
  mailboxes[0]->destroy();
  sender.join();
  receiver.join();
}

TEST_F(MailboxGroup, ManyThreadsExchangeManyMessages) {
  start(2);
  std::vector<std::thread> threads;
  for (std::uint32_t rank = 0; rank < 2; ++rank)
    for (int lane = 0; lane < 4; ++lane)
      threads.emplace_back([this, rank, lane] {
        Mailbox& self = *mailboxes[rank];
        const std::string tag = "lane " + std::to_string(lane);
        for (int i = 0; i < 100; ++i) {
          const int sent = static_cast<int>(rank) * 1000 + i;
          int got = -1;
          const auto number = self.send(1 - rank, tag, "", &sent, sizeof sent);
          const auto receive = self.receive({1 - rank}, tag, &got, sizeof got);
          ASSERT_TRUE(receive->wait(kSoonMs));
          ASSERT_TRUE(self.sent(number, kSoonMs));
          ASSERT_EQ(got, static_cast<int>(1 - rank) * 1000 + i);
        }
      });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace penstock::python
