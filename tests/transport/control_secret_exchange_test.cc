// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Who gets in: the secret, its absence, and where it must never show.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/transport/control_support.h"

namespace penstock::control {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.bytes().data()), secret.bytes().size()};
}

class ControlSecrets : public testing::Test {
 protected:
  // What the connecting side is told when a hub of `client` meets one of `server`.
  Status refusal(const TlsHubOptions& server, const TlsHubOptions& client) {
    Party accepting(server, clock_), connecting(client, clock_);
    const std::string address = accepting.listen();
    const ChannelId id = connecting.hub->connect(address, clock_.now_ns() + 5 * kSecond).value();
    EXPECT_TRUE(until({&accepting, &connecting}, [&] { return connecting.closed.contains(id); }));
    settle({&accepting, &connecting});
    EXPECT_TRUE(connecting.connected.empty());
    EXPECT_TRUE(accepting.accepted.empty());
    EXPECT_TRUE(accepting.closed.empty());
    EXPECT_THAT(connecting.closed_with().what(), HasSubstr("connect to " + address));
    return connecting.closed_with();
  }

  SystemClock clock_;
  const Secret secret_ = Secret::random();
  LogCapture log_;
};

TEST_F(ControlSecrets, AWrongOneIsRefusedAndExplained) {
  const Status why = refusal(with_secret(secret_), with_secret(Secret::random()));
  EXPECT_EQ(why.code(), Code::kUnauthenticated) << why.to_string();
  EXPECT_THAT(why.what(), HasSubstr("job secret"));
  EXPECT_THAT(why.hint(), HasSubstr("PENSTOCK_SECRET_FILE"));
  EXPECT_THAT(why.hint(), HasSubstr("--secret-file"));
  EXPECT_EQ(log_.lines(), 1U) << log_.text();
}

TEST_F(ControlSecrets, AnotherJobIsRefusedWithTheSameSecret) {
  TlsHubOptions other = with_secret(secret_);
  other.job = "another job";
  const Status why = refusal(with_secret(secret_), other);
  EXPECT_EQ(why.code(), Code::kUnauthenticated) << why.to_string();
  EXPECT_THAT(why.what(), HasSubstr("job name"));
}

TEST_F(ControlSecrets, AClientWithoutOneIsToldThatItIsNeeded) {
  const Status why = refusal(with_secret(secret_), insecurely());
  EXPECT_EQ(why.code(), Code::kUnauthenticated) << why.to_string();
  EXPECT_THAT(why.what(), HasSubstr("requires the job secret"));
}

TEST_F(ControlSecrets, AServerWithoutOneIsNotTrusted) {
  const Status why = refusal(insecurely(), with_secret(secret_));
  EXPECT_EQ(why.code(), Code::kUnauthenticated) << why.to_string();
  EXPECT_THAT(why.what(), HasSubstr("insecure"));
}

TEST_F(ControlSecrets, AHubWithoutOneNeedsToSayInsecure) {
  const Status why = create_tls_hub(TlsHubOptions{}, clock_).status();
  EXPECT_EQ(why.code(), Code::kUnauthenticated);
  EXPECT_THAT(why.hint(), HasSubstr("PENSTOCK_SECRET_FILE"));
  EXPECT_THAT(why.hint(), HasSubstr("--insecure"));
  EXPECT_EQ(log_.lines(), 0U);
}

TEST_F(ControlSecrets, AnInsecureHubWarnsEachTime) {
  const Party one(insecurely(), clock_), two(insecurely(), clock_);
  EXPECT_EQ(log_.lines(), 2U);
  EXPECT_THAT(log_.text(), HasSubstr("neither authenticated nor encrypted"));
}

TEST_F(ControlSecrets, OneWithInsecureIsAContradiction) {
  TlsHubOptions both = with_secret(secret_);
  both.insecure = true;
  EXPECT_EQ(create_tls_hub(both, clock_).status().code(), Code::kInvalidArgument);
}

TEST_F(ControlSecrets, JobNamesHaveBounds) {
  TlsHubOptions options = with_secret(secret_);
  for (const std::size_t size : {0U, 65U, 1000U}) {
    options.job = std::string(size, 'j');
    EXPECT_EQ(create_tls_hub(options, clock_).status().code(), Code::kInvalidArgument);
  }
  options.job = std::string(64, 'j');
  Party server(options, clock_), client(options, clock_);
  (void)link(client, server, server.listen(), clock_);
}

TEST_F(ControlSecrets, AWrongOneDoesNotDisturbTheOthers) {
  Party server(with_secret(secret_), clock_), good(with_secret(secret_), clock_);
  Party bad(with_secret(Secret::random()), clock_);
  const std::string address = server.listen();
  const Link channel = link(good, server, address, clock_);
  for (int i = 0; i < 50; ++i)
    ASSERT_TRUE(bad.hub->connect(address, clock_.now_ns() + 5 * kSecond).ok());
  EXPECT_TRUE(until({&server, &good, &bad}, [&] { return bad.closed.size() == 50; }));
  EXPECT_TRUE(good.hub->send(channel.near, bytes_of("here")).ok());
  EXPECT_TRUE(until({&server, &good}, [&] { return !server.frames.empty(); }));
  EXPECT_EQ(server.accepted.size(), 1U);
  // Expect: one line about fifty refusals.
  EXPECT_EQ(log_.lines(), 1U) << log_.text();
}

TEST_F(ControlSecrets, NeverShow) {
  const Secret other = Secret::random();
  std::string said = refusal(with_secret(secret_), with_secret(other)).to_string();
  said += refusal(insecurely(), with_secret(secret_)).to_string();
  said += refusal(with_secret(secret_), insecurely()).to_string();
  said += log_.text();
  for (const char* file : {"/proc/self/environ", "/proc/self/cmdline"}) {
    std::stringstream content;
    content << std::ifstream(file).rdbuf();
    said += content.str();
  }
  EXPECT_THAT(said, HasSubstr("refused a control connection"));
  for (const Secret* secret : {&secret_, &other})
    // A part of it would be as bad.
    for (std::size_t at = 0; at + 12 <= text(*secret).size(); at += 4)
      EXPECT_THAT(said, Not(HasSubstr(text(*secret).substr(at, 12))));
}

}  // namespace
}  // namespace penstock::control
