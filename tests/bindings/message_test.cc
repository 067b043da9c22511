// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Open messages between the nodes of a whole job.

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "tests/bindings/job.h"

namespace penstock::test {
namespace {

std::uint64_t number_of(const OpenMessage& message) {
  std::uint64_t number = 0;
  if (message.meta.size() == sizeof number)
    std::memcpy(&number, message.meta.data(), sizeof number);
  return number;
}

std::vector<std::byte> meta_of(std::uint64_t number) {
  std::vector<std::byte> meta(sizeof number);
  std::memcpy(meta.data(), &number, sizeof number);
  return meta;
}

// Answers from threads of its own, out of order, with the parts it got.
class Echo final : public MessageReceiver {
 public:
  void on_open_message(Rank from, OpenMessage&& message) override {
    const std::lock_guard lock(mutex_);
    if (number_of(message) != next_[from]++) out_of_order_ = true;
    held_.emplace_back(from, std::move(message));
    changed_.notify_one();
  }
  void run(Server& server) {
    for (int i = 0; i < 3; ++i) threads_.emplace_back([this, &server] { answer(server); });
  }
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  bool out_of_order() const { return out_of_order_; }

 private:
  void answer(Server& server) {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopped_ || !held_.empty(); });
      if (held_.empty()) return;
      // Every second time the newest first.
      const bool newest = ++answers_ % 2 == 0;
      auto [to, message] = std::move(newest ? held_.back() : held_.front());
      newest ? held_.pop_back() : held_.pop_front();
      lock.unlock();
      const Status sent = server.send(to, 0, std::move(message));
      EXPECT_TRUE(sent.ok()) << sent.to_string();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<Rank, OpenMessage>> held_;
  std::map<Rank, std::uint64_t> next_;
  std::vector<std::thread> threads_;
  std::uint64_t answers_ = 0;
  bool stopped_ = false;
  bool out_of_order_ = false;
};

class Answers final : public MessageReceiver {
 public:
  void on_open_message(Rank from, OpenMessage&& message) override {
    const std::lock_guard lock(mutex_);
    ++count_[{from, number_of(message)}];
    last_ = std::move(message);
    changed_.notify_one();
  }
  void place_open_message(Rank, std::span<const std::byte>, std::span<const std::uint64_t> sizes,
                          std::span<MessagePart> parts) override {
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (sizes[i] == place.size()) parts[i].bytes = place;
  }
  bool wait_for(std::size_t messages) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] {
      std::size_t all = 0;
      for (const auto& [what, times] : count_) all += times;
      return all >= messages;
    });
  }
  std::map<std::pair<Rank, std::uint64_t>, std::size_t> counts() {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  std::span<std::byte> place;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<Rank, std::uint64_t>, std::size_t> count_;
  OpenMessage last_;
};

class MessageTest : public ::testing::TestWithParam<const char*> {};

TEST_P(MessageTest, EveryRequestIsAnsweredOnce) {
  constexpr std::uint64_t kMessages = 60;
  std::vector<Echo> echoes(2);
  std::vector<Answers> answers(2);
  JobOptions options;
  options.transport = GetParam();
  options.workers = 2;
  options.servers = 2;
  options.lanes = 2;
  options.server_messages = {&echoes[0], &echoes[1]};
  options.worker_messages = {&answers[0], &answers[1]};
  Job job(options);
  ASSERT_FALSE(HasFailure());
  for (Rank rank = 0; rank < 2; ++rank) echoes[rank].run(job.servers[rank]->server());
  job.each_worker([&](Rank rank) {
    Worker& worker = job.workers[rank]->worker();
    for (std::uint64_t number = 0; number < kMessages; ++number)
      for (Rank server = 0; server < 2; ++server) {
        OpenMessage message;
        message.meta = meta_of(number);
        const std::size_t size = number % 7 == 0 ? 200'000 : number * 50;
        auto memory = std::make_shared<std::vector<std::byte>>(size, std::byte{0x5a});
        message.parts.push_back({*memory, memory});
        const Status sent = worker.send(server, 0, std::move(message));
        ASSERT_TRUE(sent.ok()) << sent.to_string();
      }
    ASSERT_TRUE(answers[rank].wait_for(2 * kMessages));
    for (const auto& [what, times] : answers[rank].counts()) EXPECT_EQ(times, 1U);
    EXPECT_EQ(answers[rank].counts().size(), 2 * kMessages);
  });
  for (Echo& echo : echoes) {
    echo.stop();
    EXPECT_FALSE(echo.out_of_order());
  }
  job.each_worker([&](Rank rank) { EXPECT_TRUE(job.workers[rank]->worker().leave().ok()); });
  for (const auto& server : job.servers) EXPECT_TRUE(server->wait(job.deadline_ns()).ok());
}

TEST_P(MessageTest, AnAnswerLandsInTheCallersMemory) {
  std::vector<Echo> echoes(1);
  std::vector<Answers> answers(1);
  std::vector<std::byte> question(3 << 20, std::byte{7});
  std::vector<std::byte> place(question.size());
  answers[0].place = place;
  JobOptions options;
  options.transport = GetParam();
  options.server_messages = {&echoes[0]};
  options.worker_messages = {&answers[0]};
  Job job(options);
  ASSERT_FALSE(HasFailure());
  echoes[0].run(job.servers[0]->server());
  Worker& worker = job.workers[0]->worker();
  OpenMessage message;
  message.meta = meta_of(0);
  message.parts.push_back({question, nullptr});
  ASSERT_TRUE(worker.send(0, 0, std::move(message)).ok());
  ASSERT_TRUE(answers[0].wait_for(1));
  EXPECT_TRUE(place == question);
  echoes[0].stop();
  EXPECT_TRUE(worker.leave().ok());
}

TEST_P(MessageTest, RefusalsSayWhy) {
  JobOptions options;
  options.transport = GetParam();
  Job job(options);
  ASSERT_FALSE(HasFailure());
  const Status sent = job.workers[0]->worker().send(0, 0, {});
  EXPECT_EQ(sent.code(), Code::kInvalidArgument);
  EXPECT_NE(sent.what().find("without a receiver"), std::string::npos) << sent.to_string();
  EXPECT_TRUE(job.workers[0]->worker().leave().ok());
}

INSTANTIATE_TEST_SUITE_P(Transports, MessageTest, ::testing::Values("loopback", "tcp", "shm"));

}  // namespace
}  // namespace penstock::test
