//! Records that no client of ours has written: valid shapes with foreign values, and damaged texts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, sync::Arc};

use tokio::task::JoinSet;

/// Returns every shape with each value of `values` in its column, and with each such value combined
/// with `partners` values of every later column. `values` has the values of each column.
///
/// The same arguments return the same records in the same order. The values of the pairs are chosen
/// so that, over all pairs, each value is combined with each other value.
#[must_use]
pub fn mutants<V: Copy, const N: usize>(
    shapes: &[[V; N]],
    values: [&[V]; N],
    partners: usize,
) -> Vec<[V; N]> {
    let mut mutants = Vec::new();
    for shape in shapes {
        for column in 0..N {
            for (number, value) in values[column].iter().enumerate() {
                let mut mutant = *shape;
                mutant[column] = *value;
                mutants.push(mutant);
                for other in column + 1..N {
                    for step in 0..partners.min(values[other].len()) {
                        let mut mutant = mutant;
                        mutant[other] =
                            values[other][(number * partners + step) % values[other].len()];
                        mutants.push(mutant);
                    }
                }
            }
        }
    }
    mutants
}

/// Returns damaged variants of a text: truncated at every character, extended by each of
/// `suffixes`, and `corruptions` times with one to three characters changed at random. The same
/// arguments return the same texts.
#[must_use]
pub fn damaged(text: &str, suffixes: &[&str], corruptions: usize) -> BTreeSet<String> {
    let truncated = text.char_indices().map(|(end, _)| text[..end].to_owned());
    let extended = suffixes.iter().map(|suffix| format!("{text}{suffix}"));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let corrupted = (0..corruptions).map(|_| random.corrupt(text));
    truncated.chain(extended).chain(corrupted).collect()
}

/// Runs `work` on all of `mutants`, at most `at_a_time` concurrently, and returns the results in
/// the order of `mutants`.
pub async fn each<T, R, F>(
    mutants: &Arc<Vec<T>>,
    at_a_time: usize,
    work: impl Fn(Arc<Vec<T>>, usize) -> F + Send,
) -> Vec<R>
where
    T: Send + Sync,
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let (mut tasks, mut results) = (JoinSet::new(), Vec::new());
    for number in 0..mutants.len() {
        if tasks.len() == at_a_time {
            results.extend(tasks.join_next().await.transpose().unwrap());
        }
        let work = work(mutants.clone(), number);
        tasks.spawn(async move { (number, work.await) });
    }
    results.extend(tasks.join_all().await);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Marsaglia's xorshift (Journal of Statistical Software 8, 2003): deterministic numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Replaces, removes, duplicates or swaps one to three characters of a text that has more than
    /// three.
    fn corrupt(&mut self, text: &str) -> String {
        const CHARACTERS: &[u8] = b"\"{}[]:,-.e09\\ \0\n";
        let mut corrupted: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(3) {
            let index = self.below(corrupted.len());
            match self.below(4) {
                0 => corrupted[index] = CHARACTERS[self.below(CHARACTERS.len())].into(),
                1 => drop(corrupted.remove(index)),
                2 => corrupted.insert(index, corrupted[index]),
                _ => {
                    let other = self.below(corrupted.len());
                    corrupted.swap(index, other);
                }
            }
        }
        corrupted.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{damaged, each, mutants};

    #[test]
    fn each_value_occurs_alone_and_combined_with_others() {
        let mutants = mutants(&[["a", "b"]], [&["x", "y"], &["x", "y", "z"]], 2);
        for expected in [["x", "b"], ["y", "b"], ["a", "z"], ["x", "x"], ["x", "y"], ["y", "z"]] {
            assert!(mutants.contains(&expected), "{expected:?}");
        }
        assert_eq!(mutants.len(), 2 + 3 + 4);
    }

    #[test]
    fn a_text_is_damaged_at_every_position_and_deterministically() {
        let texts = damaged("some text", &["!", " more"], 50);
        for expected in ["", "some", "some tex", "some text!", "some text more"] {
            assert!(texts.contains(expected), "{expected:?}");
        }
        assert!(texts.len() > 9 + 2 + 40, "{texts:?}");
        assert_eq!(texts, damaged("some text", &["!", " more"], 50));
    }

    #[tokio::test]
    async fn results_have_the_order_of_the_input() {
        let letters = Arc::new(vec!['a', 'b', 'c', 'd', 'e']);
        let results = each(&letters, 2, |letters, number| async move {
            for _ in number..5 {
                tokio::task::yield_now().await;
            }
            letters[number]
        });
        assert_eq!(results.await, *letters);
    }
}
