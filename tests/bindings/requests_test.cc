// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/requests.h"

#include <numeric>

#include "tests/bindings/job.h"

namespace penstock::test {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// "sum": one number, the sum of the array; "echo": the array; "fail"; "drop"; "later": from another
// thread.
class Calculator {
 public:
  Calculator() : server([this](Request request) { handle(std::move(request)); }) {}
  ~Calculator() {
    for (std::thread& thread : threads_) thread.join();
  }
  RequestServer server;

 private:
  void handle(Request request) {
    const std::string what = text_of(request.head());
    if (what == "later")
      threads_.emplace_back([held = std::move(request)]() mutable { reply("echo", held); });
    else
      reply(what, request);
  }
  static void reply(const std::string& what, Request& request) {
    if (what == "echo") {
      EXPECT_TRUE(request.answer(request.head(), request.parts()).ok());
    } else if (what == "sum") {
      const auto bytes = request.parts().at(0).bytes;
      const auto* numbers = reinterpret_cast<const float*>(bytes.data());
      auto sum = std::make_shared<float>(
          std::accumulate(numbers, numbers + bytes.size() / sizeof(float), 0.0F));
      EXPECT_TRUE(
          request.answer({}, {{std::as_writable_bytes(std::span(sum.get(), 1)), sum}}).ok());
    } else if (what == "fail") {
      EXPECT_TRUE(request.fail({Code::kNotFinite, "no such number"}).ok());
      EXPECT_EQ(request.answer({}, {}).code(), Code::kInvalidArgument);
    }  // "drop": the request goes unanswered
  }
  std::vector<std::thread> threads_;
};

struct RequestsTest : ::testing::TestWithParam<const char*> {
  RequestsTest() : job(options()) {
    calculator.server.attach(job.servers[0]->server());
    requests.attach(job.workers[0]->worker());
  }
  JobOptions options() {
    JobOptions options;
    options.transport = GetParam();
    options.server_messages = {&calculator.server};
    options.worker_messages = {&requests};
    return options;
  }
  Result<Answer> call(const char* what, std::span<float> array) {
    Requests::Question question;
    question.head = bytes_of(what);
    question.parts.push_back({std::as_writable_bytes(array), nullptr});
    PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t number, requests.ask(std::move(question)));
    return requests.wait(number, job.deadline_ns());
  }
  Calculator calculator;
  Requests requests;
  Job job;
};

TEST_P(RequestsTest, AreAnsweredRefusedOrDropped) {
  std::vector<float> numbers(50'000, 0.5F);
  Result<Answer> sum = call("sum", numbers);
  ASSERT_TRUE(sum.ok()) << sum.status().to_string();
  EXPECT_EQ(*reinterpret_cast<const float*>(sum->parts.at(0).bytes.data()), 25'000.0F);
  for (const char* what : {"echo", "later"}) {
    const Result<Answer> answer = call(what, numbers);
    ASSERT_TRUE(answer.ok()) << answer.status().to_string();
    EXPECT_EQ(text_of(answer->head), what);
    EXPECT_EQ(answer->parts.at(0).bytes.size(), numbers.size() * sizeof(float));
  }
  const Result<Answer> failed = call("fail", numbers);
  EXPECT_EQ(failed.status().code(), Code::kNotFinite);  // the last code there is
  EXPECT_EQ(failed.status().what(), "no such number");
  EXPECT_EQ(call("drop", numbers).status().code(), Code::kCancelled);
  EXPECT_TRUE(job.workers[0]->worker().leave().ok());
}

TEST_P(RequestsTest, AnswersLandInPlace) {
  std::vector<float> numbers(300'000, 2.0F);
  std::vector<float> place(numbers.size());
  Requests::Question question;
  question.head = bytes_of("echo");
  question.parts.push_back({std::as_writable_bytes(std::span(numbers)), nullptr});
  question.places.push_back(std::as_writable_bytes(std::span(place)));
  const auto number = requests.ask(std::move(question));
  ASSERT_TRUE(number.ok()) << number.status().to_string();
  const Result<Answer> answer = requests.wait(*number, job.deadline_ns());
  ASSERT_TRUE(answer.ok()) << answer.status().to_string();
  EXPECT_EQ(place, numbers);
  EXPECT_EQ(static_cast<const void*>(answer->parts[0].bytes.data()), place.data());
  EXPECT_EQ(requests.wait(*number, 0).status().code(), Code::kNotFound);
  EXPECT_TRUE(job.workers[0]->worker().leave().ok());
}

TEST_P(RequestsTest, AWaitEndsByItsDeadlineAndByTheDeathOfThePeer) {
  std::vector<float> numbers(10);
  Requests::Question question;
  question.server = 7;
  EXPECT_EQ(requests.ask(question).status().code(), Code::kNotFound);
  question.server = 0;
  question.head.resize(kMaxRequestHead + 1);
  EXPECT_EQ(requests.ask(question).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(requests.wait(99, 0).status().code(), Code::kNotFound);
  job.servers[0].reset();  // without a word
  question.head = bytes_of("echo");
  const auto number = requests.ask(question);
  const Status ended =
      number.ok() ? requests.wait(*number, job.deadline_ns()).status() : number.status();
  EXPECT_EQ(ended.code(), Code::kPeerLost) << ended.to_string();
}

INSTANTIATE_TEST_SUITE_P(Transports, RequestsTest, ::testing::Values("loopback", "tcp", "shm"));

}  // namespace
}  // namespace penstock::test
