#include "operator/publish/session.h"

#include <gtest/gtest.h>

namespace sluice::publish {
namespace {

using Push = Session::Push;
using Verdict = Session::Verdict;

state::Digest digest(uint8_t first) {
  state::Digest digest;
  digest.bytes[0] = first;
  return digest;
}

const state::Digest kOld = digest(1);
const state::Digest kNew = digest(2);
const state::Digest kNewer = digest(3);

TEST(Session, NothingIsSentBeforeTheAgentHasGreeted) {
  EXPECT_EQ(Session().next(kNew), Push::nothing);
}

TEST(Session, AnAgentThatHoldsTheNewestIsSentNothing) {
  Session session;
  session.opened(kNew);
  EXPECT_EQ(session.next(kNew), Push::nothing);
}

TEST(Session, AnAgentThatHoldsNothingGetsASnapshotAndAnotherADelta) {
  Session session;
  session.opened(std::nullopt);
  EXPECT_EQ(session.next(kNew), Push::snapshot);
  session.opened(kOld);
  EXPECT_EQ(session.next(kNew), Push::delta);
}

TEST(Session, NothingIsSentUntilThePushBeforeWasAnswered) {
  Session session;
  session.opened(kOld);
  session.pushed(kNew, 1, 2, Push::delta);
  EXPECT_EQ(session.next(kNewer), Push::nothing);
  EXPECT_EQ(session.acked(kNew, 1, 2), Verdict::go_on);
  EXPECT_EQ(session.next(kNew), Push::nothing);
  EXPECT_EQ(session.next(kNewer), Push::delta);
}

TEST(Session, AnAckThatComesUnaskedIsNotTheAnswer) {
  Session session;
  session.opened(kOld);
  session.pushed(kNew, 1, 2, Push::delta);
  EXPECT_EQ(session.acked(kOld, 1, 1), Verdict::go_on);
  EXPECT_EQ(session.next(kNewer), Push::nothing);
}

TEST(Session, AnAckOfOurRevisionWithAnotherContentEndsTheSession) {
  Session session;
  session.opened(kOld);
  session.pushed(kNew, 1, 2, Push::delta);
  EXPECT_EQ(session.acked(kNewer, 1, 2), Verdict::close);
}

TEST(Session, AnAgentThatCannotApplyADeltaGetsASnapshotOnce) {
  Session session;
  session.opened(kOld);
  session.pushed(kNew, 1, 2, Push::delta);
  EXPECT_EQ(session.needs_snapshot(kOld), Verdict::go_on);
  EXPECT_EQ(session.next(kNew), Push::snapshot);
  session.pushed(kNew, 1, 2, Push::snapshot);
  EXPECT_EQ(session.needs_snapshot(kOld), Verdict::close);
}

TEST(Session, DeltasResumeAfterTheSnapshot) {
  Session session;
  session.opened(kOld);
  session.pushed(kNew, 1, 2, Push::delta);
  ASSERT_EQ(session.needs_snapshot(kOld), Verdict::go_on);
  session.pushed(kNew, 1, 2, Push::snapshot);
  ASSERT_EQ(session.acked(kNew, 1, 2), Verdict::go_on);
  EXPECT_EQ(session.next(kNewer), Push::delta);
}

TEST(Session, ContentThatWasRefusedIsNotSentAgainButTheNextIs) {
  Session session;
  session.opened(kOld);
  session.pushed(kNew, 1, 2, Push::delta);
  session.refused();
  EXPECT_EQ(session.next(kNew), Push::nothing);
  EXPECT_EQ(session.next(kNewer), Push::delta);
}

}  // namespace
}  // namespace sluice::publish
