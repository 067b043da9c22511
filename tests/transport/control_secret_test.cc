// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/secret.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "transport/base/unique_fd.h"

namespace penstock {
namespace {

std::string text(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.bytes().data()), secret.bytes().size()};
}

class SecretFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "penstock-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ / "secret";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(std::string_view content, mode_t mode = 0600) {
    std::ofstream(path_) << content;
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
  }
  Status error() const { return Secret::from_file(path_.string()).status(); }

  std::filesystem::path folder_, path_;
};

TEST(Secret, IsRandomAndLong) {
  const Secret a = Secret::random(), b = Secret::random();
  EXPECT_EQ(a.bytes().size(), 64U);
  EXPECT_NE(text(a), text(b));
  EXPECT_TRUE(Secret().empty());
}

TEST(Secret, CopiesAreEqualAndMovedFromOnesAreEmpty) {
  Secret a = Secret::random();
  const std::string before = text(a);
  const Secret b = a.copy();
  const Secret c = std::move(a);
  EXPECT_EQ(text(b), before);
  EXPECT_EQ(text(c), before);
  EXPECT_TRUE(a.empty());  // NOLINT: the moved-from state is promised
}

TEST_F(SecretFile, WritesAPrivateFileThatReadsBack) {
  const Secret secret = Secret::random();
  ASSERT_TRUE(secret.write_file(path_.string()).ok());
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  EXPECT_EQ(text(Secret::from_file(path_.string()).value()), text(secret));
  // Expect: a second write does not replace what other processes may have read.
  EXPECT_EQ(secret.write_file(path_.string()).code(), Code::kAlreadyExists);
}

TEST_F(SecretFile, IgnoresTrailingLineEnds) {
  write("0123456789abcdef\r\n\n");
  EXPECT_EQ(text(Secret::from_file(path_.string()).value()), "0123456789abcdef");
}

TEST_F(SecretFile, RefusesAFileThatOthersMayUse) {
  for (const mode_t mode : {0640U, 0604U, 0644U, 0660U, 0601U, 0777U}) {
    write("0123456789abcdef0123456789abcdef", mode);
    const Status status = error();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << mode;
    EXPECT_EQ(status.hint(), "chmod 600 " + path_.string());
    EXPECT_THAT(status.to_string(), testing::Not(testing::HasSubstr("0123456789")));
  }
  write("0123456789abcdef0123456789abcdef", 0400);
  EXPECT_TRUE(error().ok()) << error().to_string();
}

TEST_F(SecretFile, RefusesLengthsOutOfBounds) {
  for (const std::size_t size : {0U, 1U, 15U, 4097U, 5000U, 100'000U}) {
    write(std::string(size, 'x'));
    EXPECT_EQ(error().code(), Code::kInvalidArgument) << size;
  }
  write("fifteen bytes..\n\n");
  EXPECT_THAT(error().what(), testing::HasSubstr("too short"));
  for (const std::size_t size : {16U, 4096U}) {
    write(std::string(size, 'x') + "\r\n");
    EXPECT_TRUE(error().ok()) << error().to_string();
  }
}

TEST_F(SecretFile, NamesAMissingFileAndHowToMakeIt) {
  const Status status = error();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.what(), testing::HasSubstr(path_.string()));
  EXPECT_THAT(status.hint(), testing::HasSubstr("openssl rand"));
}

TEST_F(SecretFile, DoesNotWaitForTheWriterOfAFifo) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Secret::from_file(folder_.string()).status().code(), Code::kInvalidArgument);
}

TEST_F(SecretFile, ComesFromTheFileTheEnvironmentNames) {
  ::unsetenv(kSecretFileVariable);
  EXPECT_EQ(Secret::from_environment_file().status().code(), Code::kNotFound);
  write("0123456789abcdef0123456789abcdef");
  ::setenv(kSecretFileVariable, path_.c_str(), 1);
  EXPECT_EQ(text(Secret::from_environment_file().value()), "0123456789abcdef0123456789abcdef");
  ::unsetenv(kSecretFileVariable);
}

TEST_F(SecretFile, ReachesForkedChildrenThroughOneDescriptor) {
  write("0123456789abcdef0123456789abcdef");
  const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  for (int child = 0; child < 2; ++child) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      auto secret = Secret::from_fd(fd.get());
      ::_exit(secret.ok() && text(*secret) == "0123456789abcdef0123456789abcdef" ? 0 : 1);
    }
    int state = 0;
    ASSERT_EQ(::waitpid(pid, &state, 0), pid);
    EXPECT_EQ(state, 0) << "child " << child;
  }
}

TEST(Secret, ComesThroughAPipe) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  constexpr std::string_view kText = "0123456789abcdef";
  ASSERT_EQ(::write(writer.get(), kText.data(), 7), 7);
  ASSERT_EQ(::write(writer.get(), kText.data() + 7, 9), 9);
  writer.reset();
  EXPECT_EQ(text(Secret::from_fd(reader.get()).value()), kText);
  EXPECT_EQ(Secret::from_fd(-1).status().code(), Code::kSystem);
}

}  // namespace
}  // namespace penstock
