#include "node-agent/ctl/table.h"

#include <algorithm>

namespace sluice::agent::ctl {
namespace {

constexpr size_t kGap = 3;

std::string shown(const std::vector<std::string>& row, size_t column) {
  const bool last = column + 1 == row.size();
  return row[column].empty() && !last ? "-" : row[column];
}

}  // namespace

std::string Table::text() const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], shown(row, i).size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string cell = shown(row, i);
      cell.resize(widths[i] + kGap, ' ');
      line += cell;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace sluice::agent::ctl
