//! Chain ids: a layer together with everything below it (OCI image-spec, config.md#layer-chainid).

use model::Digest;
use sha2::{Digest as _, Sha256};

/// The chain id of each layer, from the diff ids, the base first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => {
                Digest::from_sha256(Sha256::digest(format!("{parent} {diff_id}")).into())
            }
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_build_on_what_is_below() {
        let layers: Vec<Digest> = ["a", "b", "c"]
            .map(|fill| format!("sha256:{}", fill.repeat(64)).parse().unwrap())
            .to_vec();
        let chain = chain_ids(&layers);
        assert_eq!(chain[0], layers[0]);
        let joined = format!("{} {}", layers[0], layers[1]);
        assert_eq!(chain[1], Digest::from_sha256(Sha256::digest(joined).into()));
        assert_eq!(chain_ids(&layers[..2])[..], chain[..2]);
        assert!(chain_ids(&[]).is_empty());
    }
}
