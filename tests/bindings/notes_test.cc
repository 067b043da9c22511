// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Notes between the nodes of a whole job.

#include <condition_variable>
#include <mutex>

#include "tests/bindings/job.h"

namespace penstock::test {
namespace {

class Notebook final : public NoteReceiver {
 public:
  void on_note(Role from, Rank rank, std::span<const std::uint8_t> body) override {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::string(role_name(from)) + " " + std::to_string(rank) + ": " +
                     std::string(body.begin(), body.end()));
    changed_.notify_all();
  }
  std::vector<std::string> wait_for(std::size_t lines) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return lines_.size() >= lines; });
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

std::vector<std::uint8_t> body_of(std::string_view text) { return {text.begin(), text.end()}; }

TEST(Notes, GoBetweenAnyTwoNodesInOrder) {
  Notebook scheduler, server;
  std::vector<Notebook> workers(2);
  JobOptions options;
  options.workers = 2;
  options.notes = [&](Role role, Rank rank) -> NoteReceiver* {
    if (role == Role::kScheduler) return &scheduler;
    return role == Role::kServer ? &server : &workers[rank];
  };
  Job job(options);
  ASSERT_FALSE(HasFailure());
  Worker& first = job.workers[0]->worker();
  for (const char* text : {"one", "two", "three"})
    ASSERT_TRUE(first.send_note({Role::kWorker, 1, body_of(text)}).ok());
  ASSERT_TRUE(first.send_note({Role::kScheduler, 0, body_of("hello")}).ok());
  ASSERT_TRUE(job.servers[0]->server().send_note({Role::kWorker, 0, body_of("from you")}).ok());
  ASSERT_TRUE(job.scheduler->scheduler().send_note({Role::kServer, 0, body_of("news")}).ok());
  EXPECT_EQ(workers[1].wait_for(3),
            (std::vector<std::string>{"worker 0: one", "worker 0: two", "worker 0: three"}));
  EXPECT_EQ(scheduler.wait_for(1), (std::vector<std::string>{"worker 0: hello"}));
  EXPECT_EQ(workers[0].wait_for(1), (std::vector<std::string>{"server 0: from you"}));
  EXPECT_EQ(server.wait_for(1), (std::vector<std::string>{"scheduler 0: news"}));

  ASSERT_TRUE(first.send_note({Role::kServer, 9, body_of("nobody")}).ok());  // dropped
  const Status long_one =
      first.send_note({Role::kServer, 0, std::vector<std::uint8_t>(kMaxNoteBytes + 1)});
  EXPECT_EQ(long_one.code(), Code::kInvalidArgument);
  job.each_worker([&](Rank rank) { EXPECT_TRUE(job.workers[rank]->worker().leave().ok()); });
}

}  // namespace
}  // namespace penstock::test
