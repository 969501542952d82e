// The way to the agent, over the server that the agent has.
#include "node-agent/ctl/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "common/telemetry/http_server.h"

namespace sluice::agent::ctl {
namespace {

using telemetry::HttpReply;
using telemetry::HttpServer;
using testing::HasSubstr;

HttpReply reply(int status, const std::string& body) {
  HttpReply out;
  out.status = status;
  out.body = body;
  return out;
}

class Client : public testing::Test {
 protected:
  Client() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-ctl-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    path_ = directory_ + "/below/agent.sock";
  }
  ~Client() override { std::filesystem::remove_all(directory_); }
  Result<std::unique_ptr<HttpServer>> serve() const {
    return HttpServer::start_local(path_,
                                   {{"/good", [] { return reply(200, R"({"a":1})"); }},
                                    {"/large", [] { return reply(200, "[\"" + std::string(8 << 20, 'x') + "\"]"); }},
                                    {"/busy", [] { return reply(503, "the agent is busy; ask again\n"); }},
                                    {"/text", [] { return reply(200, "no JSON"); }}});
  }
  std::string directory_;
  std::string path_;
};

TEST_F(Client, IsAnsweredByTheOwnerOfTheSocketAlone) {
  const auto server = serve();
  ASSERT_TRUE(server) << server.error().message();
  struct stat found {};
  ASSERT_EQ(stat(path_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600U);
  EXPECT_EQ(ask(path_, "/good").value(), nlohmann::json({{"a", 1}}));
  EXPECT_EQ(ask(path_, "/large").value()[0].get<std::string>().size(), size_t{8 << 20});
}

TEST_F(Client, TellsErrorsApart) {
  EXPECT_EQ(ask(path_, "/good").error().kind, ErrorKind::not_found);
  EXPECT_THAT(ask(path_, "/good").error().message(), HasSubstr("there is no such socket: does sluice-agent run"));
  EXPECT_THAT(ask("/tmp/" + std::string(200, 'x'), "/good").error().message(), HasSubstr("File name too long"));
  const auto server = serve();
  ASSERT_TRUE(server);
  EXPECT_EQ(ask(path_, "/other").error().kind, ErrorKind::not_supported);
  EXPECT_EQ(ask(path_, "/busy").error().kind, ErrorKind::unavailable);
  EXPECT_THAT(ask(path_, "/busy").error().message(), testing::EndsWith("the agent is busy; ask again"));
  EXPECT_EQ(ask(path_, "/text").error().kind, ErrorKind::internal);
}

TEST_F(Client, SocketThatNobodyAnswersAtIsTakenOver) {
  std::filesystem::create_directories(directory_ + "/below");
  const int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, path_.c_str(), sizeof name.sun_path - 1);
  ASSERT_EQ(bind(dead, reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
  close(dead);
  EXPECT_THAT(ask(path_, "/good").error().message(), HasSubstr("nobody listens"));
  const auto server = serve();
  ASSERT_TRUE(server) << server.error().message();
  EXPECT_TRUE(ask(path_, "/good"));
}

TEST_F(Client, SocketThatIsAnsweredIsLeftAlone) {
  {
    const auto server = serve();
    ASSERT_TRUE(server);
    const auto second = serve();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::exists);
    EXPECT_TRUE(ask(path_, "/good")) << "and goes on being answered";
  }
  EXPECT_FALSE(std::filesystem::exists(path_)) << "it goes with its server";
}

TEST_F(Client, FileThatIsNoSocketStays) {
  std::filesystem::create_directories(path_);
  EXPECT_FALSE(serve());
  EXPECT_TRUE(std::filesystem::is_directory(path_));
}

TEST_F(Client, PathThatIsTooLongIsToldAsSuch) {
  path_ = directory_ + "/" + std::string(120, 'x');
  const auto server = serve();
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().kind, ErrorKind::invalid);
}

}  // namespace
}  // namespace sluice::agent::ctl
